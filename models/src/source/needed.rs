//! Which files of a repository a model is made of. Repositories hold the same weights several times over, for
//! other frameworks and as graphs; of those nothing is fetched.

use std::path::{Component, Path};

use models_core::card::{CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE};
use models_core::faithful::{MODULES_FILE, PROMPTS_FILE, READING_FILE};
use models_core::weights::tensors::{INDEX_FILE, PICKLE_FILE};
use serde_json::Value;

use super::hub::Listed;

/// What the rest follows from, and what answers follow from beside the weights. The last is for the authors'
/// own libraries.
const DESCRIPTIONS: [&str; 7] = [
    CONFIG_FILE,
    TOKENIZER_FILE,
    "tokenizer_config.json",
    MODULES_FILE,
    PROMPTS_FILE,
    READING_FILE,
    "special_tokens_map.json",
];

/// The files that say what a model is, and which have its weights.
///
/// # Errors
/// There is no model in the repository that can be served: says what is missing and what to do.
pub(super) fn first(listed: &[Listed]) -> Result<Vec<String>, String> {
    let has = |name: &str| listed.iter().any(|file| file.path == name);
    if !has(CONFIG_FILE) {
        return Err("has no config.json: it is no checkpoint of transformers".to_owned());
    }
    if !has(WEIGHTS_FILE) && !has(INDEX_FILE) {
        let pickled = if has(PICKLE_FILE) {
            ", and pytorch_model.bin is not read, since reading it would run what is in it"
        } else {
            ""
        };
        return Err(format!(
            "has no model.safetensors{pickled}: name a revision that has it (on the hub often revision=refs/pr/1), or \
             save the model by save_pretrained(…, safe_serialization=True) and serve that folder"
        ));
    }
    if !has(TOKENIZER_FILE) {
        return Err("has no tokenizer.json: save the tokenizer by transformers' \
                    AutoTokenizer.from_pretrained(…).save_pretrained(…) beside the model, and serve that folder"
            .to_owned());
    }
    let index = Some(INDEX_FILE).filter(|_| !has(WEIGHTS_FILE));
    let names = DESCRIPTIONS.into_iter().chain(index).filter(|name| has(name));
    Ok(names.map(str::to_owned).collect())
}

/// The other files: weights, and what modules need, as the first ones in `folder` name them.
///
/// # Errors
/// One of the first ones cannot be read, or names what is not there.
pub(super) fn rest(listed: &[Listed], folder: &Path) -> Result<Vec<String>, String> {
    let has = |name: &str| listed.iter().any(|file| file.path == name);
    let mut names = Vec::new();
    if has(WEIGHTS_FILE) {
        names.push(WEIGHTS_FILE.to_owned());
    } else {
        let index = json(folder, INDEX_FILE)?;
        let shards =
            index["weight_map"].as_object().ok_or("model.safetensors.index.json has no weight_map")?;
        names.extend(shards.values().filter_map(Value::as_str).map(str::to_owned));
    }
    if has(MODULES_FILE) {
        let modules = json(folder, MODULES_FILE)?;
        let paths = modules.as_array().into_iter().flatten().filter_map(|module| module["path"].as_str());
        for path in paths.filter(|path| !path.is_empty()) {
            let own = [CONFIG_FILE, WEIGHTS_FILE].map(|file| format!("{path}/{file}"));
            names.extend(own.into_iter().filter(|file| has(file)));
        }
    }
    names.sort();
    names.dedup();
    let is_inside =
        |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    match names.iter().find(|name| !has(name) || !is_inside(name)) {
        Some(missing) => Err(format!("{missing} is named by its files and is not among them")),
        None => Ok(names),
    }
}

fn json(folder: &Path, name: &str) -> Result<Value, String> {
    let bytes = models_core::files::read(&folder.join(name)).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))
}
