//! For `scripts/train`: reads texts, a JSON string a line, and writes how the server reads each, a JSON
//! object a line.

use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        serde_json::to_writer(&mut output, &models::training::text_as_read(&text))?;
        output.write_all(b"\n")?;
    }
    output.flush()
}
