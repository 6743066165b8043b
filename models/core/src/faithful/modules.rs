//! How a checkpoint's authors make a vector of hidden states, as sentence-transformers writes it down
//! (<https://sbert.net/docs/sentence_transformer/usage/custom_models.html>): `modules.json`, a folder for
//! each module, `sentence_bert_config.json` for reading and `config_sentence_transformers.json` for prompts.
//! In its older layout the weights lie in a folder of their own, `0_Transformer`, and `modules.json` one
//! folder up.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{fault, read};
use crate::card::{CONFIG_FILE, Card, Module as CardModule, Origin, Pooling, PoolingHead, TOKENIZER_FILE};
use crate::error::ModelError;

/// Lists the modules.
pub const MODULES_FILE: &str = "modules.json";
/// Has the prompts.
pub const PROMPTS_FILE: &str = "config_sentence_transformers.json";
/// Says how texts are read.
pub const READING_FILE: &str = "sentence_bert_config.json";
/// A module of sentence-transformers.
#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
}

#[derive(Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    #[serde(default)]
    default_prompt_name: Option<String>,
    #[serde(default)]
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct SequenceConfig {
    #[serde(default)]
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// Compares the card's pooling head with what lies in the folder of its files and, in the older layout,
/// around it.
pub(super) fn check(card: &Card, head: &PoolingHead, folder: &Path) -> Result<(), ModelError> {
    let mut says_pooling = false;
    for (root, transformer) in roots(folder)? {
        says_pooling |= check_modules(&root, &transformer, head)?;
        check_prompts(card, &root)?;
        check_reading(card, folder, &root)?;
    }
    // The files of a repository or a package are those alone that the card lists, and most list none of
    // these.
    let is_fetched = matches!(card.source.origin, Origin::Repository { .. });
    match &card.pooling {
        // That it is what the head pools by was seen where the card was read.
        Some(_) => Ok(()),
        None if says_pooling || !is_fetched => Ok(()),
        None => {
            let message = "is not among source.files, so how the authors pool is not known; needed: modules.json and what its \
                           modules' folders hold among source.files, or ml_inference.pooling: mean if their answers are the mean of \
                           the hidden states with no module after it";
            Err(fault(&folder.join(MODULES_FILE), message.to_owned()))
        }
    }
}

/// Folders that have modules, each with the path of the transformer from there.
fn roots(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, ModelError> {
    let mut roots = vec![(folder.to_path_buf(), PathBuf::new())];
    if let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) {
        let modules = parent.join(MODULES_FILE);
        let is_old = module_of(&name.to_string_lossy()).is_some_and(|kind| kind == "Transformer");
        let lists_it = || -> Result<bool, ModelError> {
            let modules: Vec<Module> = read(&modules)?;
            Ok(modules.iter().any(|module| normal(&module.path).as_deref() == Some(Path::new(name))))
        };
        if is_old || (modules.is_file() && lists_it()?) {
            roots.push((parent.to_path_buf(), PathBuf::from(name)));
        }
    }
    Ok(roots)
}

/// Looks at the modules that `modules.json` lists, or else at folders of modules that lie there without it.
/// Whether there is one that pools.
fn check_modules(root: &Path, transformer: &Path, head: &PoolingHead) -> Result<bool, ModelError> {
    let path = root.join(MODULES_FILE);
    let is_listed = path.is_file();
    let modules: Vec<Module> = if is_listed { read(&path)? } else { stray_modules(root)? };
    let mut kinds = Vec::new();
    let mut behind = Vec::new();
    for module in &modules {
        let within = inside(&path, &module.path)?;
        let kind = module.r#type.rsplit('.').next().unwrap_or_default();
        let is_known = !is_listed || is_of_sentence_transformers(&module.r#type);
        let is_computed = match kind {
            "Transformer" => within == transformer,
            "Pooling" => true,
            _ => {
                let own = match kind {
                    "Normalize" => Some(CardModule::Normalize),
                    "Dense" => Some(CardModule::Dense(within.clone())),
                    "LayerNorm" => Some(CardModule::LayerNorm(within.clone())),
                    _ => None,
                };
                let is_of_card = own
                    .as_ref()
                    .is_some_and(|own| *own == CardModule::Normalize || head.modules.contains(own));
                behind.extend(own);
                is_of_card
            }
        };
        if !is_known || !is_computed {
            let message = format!(
                "module {kind} ({}) of the type {} is not what the card's head computes; needed: a head that computes it",
                module.path, module.r#type
            );
            return Err(fault(&path, message));
        }
        if kind == "Pooling" {
            check_pooling(&root.join(within).join(CONFIG_FILE), head)?;
        }
        kinds.push(kind);
    }
    if !is_listed {
        // Without the list, their order is not known, and the transformer has no folder or is this one.
        kinds.retain(|kind| *kind != "Transformer");
        return match kinds.iter().filter(|kind| **kind == "Pooling").count() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(fault(root, "holds two folders of a module Pooling; needed: modules.json".to_owned())),
        };
    }
    // What is embedded is scaled to length one unless the caller says otherwise, and compared by cosine, so
    // that a scale as the last module is none of the head's.
    if matches!(kinds[..], ["Transformer", "Pooling", ..]) && !kinds[2..].contains(&"Pooling") {
        let without_scale = |modules: &[CardModule]| {
            modules.strip_suffix(&[CardModule::Normalize]).unwrap_or(modules).to_vec()
        };
        if without_scale(&behind) == without_scale(&head.modules) {
            return Ok(true);
        }
    }
    let message = format!(
        "lists the modules [{}]; the card's head computes a Transformer, then one Pooling, then {}; needed: a head that \
         computes what is listed",
        kinds.join(", "),
        if head.modules.is_empty() { "perhaps Normalize" } else { "the modules that it lists" }
    );
    Err(fault(&path, message))
}

/// Whether a type is the library's own, where its versions put it: `sentence_transformers.models.Pooling`,
/// also as a module of that name, and `sentence_transformers.….modules.pooling.Pooling`. Others of the same
/// name are their authors' code.
fn is_of_sentence_transformers(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let [library, middle @ .., kind] = &parts[..] else { return false };
    let lower = kind.to_ascii_lowercase();
    *library == "sentence_transformers"
        && match middle {
            ["models"] | [_, "modules"] => true,
            ["models", module] | [_, "modules", module] => module == kind || module.replace('_', "") == lower,
            _ => false,
        }
}

/// Folders such as `2_Dense`.
fn stray_modules(folder: &Path) -> Result<Vec<Module>, ModelError> {
    let mut modules = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| fault(folder, error.to_string()))? {
        let entry = entry.map_err(|error| fault(folder, error.to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(kind) = module_of(&name)
            && entry.path().is_dir()
        {
            modules.push(Module { r#type: kind.to_owned(), path: name });
        }
    }
    Ok(modules)
}

/// The module that a folder of this name belongs to.
fn module_of(folder: &str) -> Option<&str> {
    let (number, kind) = folder.split_once('_')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(kind)
}

/// How a pooling module pools: older files have a switch for each way, newer ones a name or several, and they
/// must agree.
fn check_pooling(path: &Path, head: &PoolingHead) -> Result<(), ModelError> {
    const PREFIX: &str = "pooling_mode_";
    let fields: Map<String, Value> = read(path)?;
    let refuse = |how: &str| {
        let own = head.pooling.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message =
            format!("pools by {how}, the card's head by {own}; needed: a head that pools as it does");
        Err(fault(path, message))
    };
    let mut ways = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        match value.as_bool() {
            Some(true) => ways.push(name.as_str()),
            Some(false) => {}
            None => return Err(fault(path, format!("{name}: must be true or false"))),
        }
    }
    let by_switches = switched_on(&fields);
    match fields.get("pooling_mode") {
        Some(mode) => {
            let Some(by_name) = modes(mode) else { return refuse(&format!("pooling_mode {mode}")) };
            if !ways.is_empty() && (by_switches != by_name || ways.len() != by_name.len()) {
                let message = format!("pooling_mode {mode} contradicts {}", ways.join(" and "));
                return Err(fault(path, message));
            }
            let denied = by_name.iter().find(|mode| fields.get(switch(**mode)) == Some(&Value::Bool(false)));
            if let Some(denied) = denied {
                let message = format!("pooling_mode {mode} contradicts {}: false", switch(*denied));
                return Err(fault(path, message));
            }
            if by_name != head.pooling {
                return refuse(&format!("pooling_mode {mode}"));
            }
        }
        None if ways.is_empty() => return refuse("nothing that is named"),
        None if by_switches != head.pooling || ways.len() != by_switches.len() => {
            return refuse(&ways.join(" and "));
        }
        None => {}
    }
    let includes_prompt = fields.get("include_prompt").and_then(Value::as_bool).unwrap_or(true);
    if includes_prompt == head.includes_prompt {
        return Ok(());
    }
    let message = format!("include_prompt: is {includes_prompt}, the card's head says otherwise");
    Err(fault(path, message))
}

/// Ways to pool that a pooling module's `config.json` names, or has switched on; none where it says nothing
/// that is known. What contradicts itself is refused where a card is compared with it.
pub fn pooling_of(fields: &Map<String, Value>) -> Vec<Pooling> {
    fields.get("pooling_mode").map_or_else(|| Some(switched_on(fields)), modes).unwrap_or_default()
}

fn switched_on(fields: &Map<String, Value>) -> Vec<Pooling> {
    let is_on = |mode: &Pooling| fields.get(switch(*mode)) == Some(&Value::Bool(true));
    Pooling::ALL.into_iter().filter(is_on).collect()
}

/// The switch of a way to pool in older files.
const fn switch(mode: Pooling) -> &'static str {
    match mode {
        Pooling::Cls => "pooling_mode_cls_token",
        Pooling::Max => "pooling_mode_max_tokens",
        Pooling::Mean => "pooling_mode_mean_tokens",
        Pooling::MeanSqrtLen => "pooling_mode_mean_sqrt_len_tokens",
        Pooling::WeightedMean => "pooling_mode_weightedmean_tokens",
        Pooling::LastToken => "pooling_mode_lasttoken",
    }
}

/// Ways to pool by their names: one, several with `+` between them, or a list.
fn modes(value: &Value) -> Option<Vec<Pooling>> {
    let names: Vec<&str> = match value {
        Value::String(names) => names.split('+').collect(),
        Value::Array(names) => names.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let mode = |name: &str| Pooling::ALL.into_iter().find(|mode| mode.as_str() == name);
    names.into_iter().map(mode).collect()
}

/// A prompt that is put before every text changes its vector, and so does one that a call names.
fn check_prompts(card: &Card, root: &Path) -> Result<(), ModelError> {
    let path = root.join(PROMPTS_FILE);
    if !path.is_file() {
        return Ok(());
    }
    let prompts: Prompts = read(&path)?;
    if let Some(name) = prompts.default_prompt_name.filter(|name| card.prompts.default.as_ref() != Some(name))
    {
        let message = format!(
            "default_prompt_name {name:?}: the card's texts are read without it; needed: ml_inference.default_prompt"
        );
        return Err(fault(&path, message));
    }
    let other = card
        .prompts
        .texts
        .iter()
        .find(|(name, text)| prompts.prompts.get(*name).is_some_and(|own| own != *text));
    if let Some((name, _)) = other {
        return Err(fault(&path, format!("prompts.{name}: is another text than in ml_inference.prompts")));
    }
    match prompts.model_type {
        Some(kind) if kind != "SentenceTransformer" => {
            let message = format!("model_type {kind:?}: only a SentenceTransformer makes a vector of a text");
            Err(fault(&path, message))
        }
        _ => Ok(()),
    }
}

/// What is done to a text before the tokenizer, and how much of it is read at once.
fn check_reading(card: &Card, folder: &Path, root: &Path) -> Result<(), ModelError> {
    let path = root.join(READING_FILE);
    if !path.is_file() {
        return Ok(());
    }
    let reading: SequenceConfig = read(&path)?;
    let tokens_max = card.limits.tokens_max;
    if let Some(length) = reading.max_seq_length.filter(|length| *length != tokens_max) {
        let message = format!(
            "max_seq_length: is {length}, the card's limits.tokens_max {tokens_max}, so longer texts are not read as the authors do; \
             needed: limits.tokens_max: {length}"
        );
        return Err(fault(&path, message));
    }
    if reading.do_lower_case {
        let tokenizer: Value = read(&folder.join(TOKENIZER_FILE))?;
        if !makes_lower_case(&tokenizer["normalizer"]) {
            let message = "do_lower_case: is true, and tokenizer.json leaves letters as they are; needed: a normalizer Lowercase in \
                           tokenizer.json";
            return Err(fault(&path, message.to_owned()));
        }
    }
    Ok(())
}

fn makes_lower_case(normalizer: &Value) -> bool {
    match normalizer["type"].as_str() {
        Some("Lowercase") => true,
        Some("BertNormalizer") => normalizer["lowercase"].as_bool() == Some(true),
        Some("Sequence") => normalizer["normalizers"].as_array().into_iter().flatten().any(makes_lower_case),
        _ => false,
    }
}

/// A path out of a file, which must stay in its folder.
fn inside(file: &Path, path: &str) -> Result<PathBuf, ModelError> {
    normal(path).ok_or_else(|| fault(file, "a module's path leads out of the folder".to_owned()))
}

/// The path without `.`, or nothing if it leads upwards or is absolute.
fn normal(path: &str) -> Option<PathBuf> {
    let mut within = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => within.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(within)
}
