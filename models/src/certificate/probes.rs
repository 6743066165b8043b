//! The texts that are compared: short and long ones, of several languages and scripts, with what tokenizers
//! stumble over.

use models_core::card::Sha256Digest;
use models_core::files;

/// Steps from a text to the one that it is read with in pairs; without a common factor with their number.
const PARTNER_STEP: usize = 7;

/// 64 texts.
pub const PROBES: [&str; 64] = [
    "a",
    "Hello.",
    "The meeting was moved to Tuesday.",
    "Where is the nearest train station?",
    "I love this phone, the battery lasts for days.",
    "The food was cold and nobody apologised.",
    "It is all right, nothing special.",
    "Angela Merkel met Emmanuel Macron in Berlin on Monday.",
    "Apple opened a new office in Munich with 1,500 engineers.",
    "The European Central Bank raised its rate by 25 basis points.",
    "How do I reset my password?",
    "To reset your password, open the settings and choose Security.",
    "Paris is the capital of France.",
    "The capital of Australia is Canberra, not Sydney.",
    "Mount Everest is 8,849 metres high.",
    "Water boils at 100 °C at sea level.",
    "Dr. Smith's flight (BA 2490) leaves at 6:45 p.m.",
    "Please send the invoice to billing@example.com by 31/12/2025.",
    "See https://example.org/a/b?c=d&e=f#g for details.",
    "price: $1,299.99 (-15%)",
    "C++ and C# aren't the same; neither are f(x) and f[x].",
    "for (int i = 0; i < n; i++) { sum += a[i]; }",
    "def add(a, b):\n    return a + b",
    "SELECT name, COUNT(*) FROM users GROUP BY name;",
    "{\"id\": 7, \"tags\": [\"new\", null], \"ok\": true}",
    "<p>Some <b>bold</b> text &amp; an entity.</p>",
    "one\ttab,  two  spaces,\nand a line break",
    "   spaces around   ",
    "ALL CAPITALS ARE LOUD",
    "mIxEd CaSe and camelCaseWords",
    "naïve café, coöperate, façade, résumé",
    "Straße, Grüße, Äpfel und Öl",
    "Die Sitzung wurde auf Dienstag verschoben.",
    "La réunion a été reportée à mardi.",
    "La reunión se aplazó hasta el martes.",
    "A reunião foi adiada para terça-feira.",
    "La riunione è stata spostata a martedì.",
    "De vergadering is verplaatst naar dinsdag.",
    "Spotkanie przeniesiono na wtorek.",
    "Toplantı salı gününe ertelendi.",
    "Встреча перенесена на вторник.",
    "Зустріч перенесли на вівторок.",
    "Η συνάντηση μεταφέρθηκε για την Τρίτη.",
    "تم نقل الاجتماع إلى يوم الثلاثاء.",
    "הפגישה הועברה ליום שלישי.",
    "बैठक मंगलवार को कर दी गई है।",
    "การประชุมถูกเลื่อนไปเป็นวันอังคาร",
    "会议改到星期二了。",
    "会議は火曜日に変更されました。",
    "회의가 화요일로 옮겨졌습니다.",
    "Cuộc họp đã được chuyển sang thứ Ba.",
    "😀 emoji 👩‍👩‍👧 and flags 🇩🇪",
    "“Curly quotes” — dashes – and… dots",
    "ﬁrst ligature, Ⅷ, ½, ™, ２０２５",
    "e\u{301}clair (decomposed) and éclair (composed)",
    "antidisestablishmentarianism",
    "0123456789 3.14159 1e-10 0xFF",
    "?!?!... ---- ~~~~ ####",
    "A very short one",
    "Two roads diverged in a wood, and the traveller took the one with fewer footprints, which was muddy.",
    "The committee, which had not met since the spring, agreed after a long debate that the report on water \
     quality should be published without changes, although two of its members wanted the tables to be moved \
     into an appendix and the summary to be shortened.",
    "In the first quarter revenue grew by 12 percent to 4.2 billion euros, mainly because of strong demand for \
     electric motors in Asia. Operating profit fell slightly, since energy and logistics cost more than a year \
     ago. The company expects both to ease in the second half and keeps its forecast for the year. Its shares \
     rose by three percent after the announcement, and analysts at several banks called the result solid.",
    "Preheat the oven to 180 degrees. Mix the flour, the sugar and a pinch of salt in a large bowl. Add the \
     butter in small pieces and rub it in with your fingers until the mixture looks like breadcrumbs. Beat the \
     egg with two spoons of milk, pour it into the bowl and stir until it just comes together. Wrap the dough \
     and let it rest for half an hour. Roll it out, cut it into rounds and bake them for twelve minutes.",
    "The old lighthouse at the end of the pier has not been lit since 1968. Ships find their way by satellite \
     now, and the keeper's cottage is a small museum that opens on summer weekends. Visitors climb 112 steps to \
     the gallery, from which on a clear day the islands can be seen, and sometimes a seal. The lens, made in \
     Paris in 1871, still turns if it is pushed. A plaque names the three keepers who served there, and the \
     storm in which one of them, Tomás Reilly, rowed out twice to bring in the crew of a schooner. His oilskin \
     hangs by the door. The museum asks for no entrance fee, but there is a box for coins next to the postcards.",
];

/// The text that a probe is read with where a model reads two.
pub const fn partner(probe: usize) -> usize {
    (probe + PARTNER_STEP) % PROBES.len()
}

/// Stands for all of them and how they are paired.
pub(super) fn digest() -> Sha256Digest {
    let texts = PROBES.map(|text| files::digest_of(text.as_bytes()));
    let pairs = files::digest_of(&PARTNER_STEP.to_le_bytes());
    files::digest_of_all(texts.iter().chain([&pairs]))
}
