//! Translation between the protobuf messages and tensors.

use std::collections::HashMap;

use api::{ApiError, InferResponse};
use axum::body::Bytes;
use proto::oip::infer_parameter::ParameterChoice;
use proto::oip::model_infer_request::InferInputTensor;
use proto::oip::model_infer_response::InferOutputTensor;
use proto::oip::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};

use crate::oip::call::{Asked, AskedOutput, Elements, OutputTensor, Rendering};
use crate::oip::error::invalid;
use crate::oip::parameters::{Value, Values};
use crate::oip::tensor::{Data, Tensor};

fn values(parameters: HashMap<String, InferParameter>) -> Values {
    let value = |parameter: InferParameter| match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Value::Bool(value),
        Some(ParameterChoice::Int64Param(value)) => Value::Integer(value.into()),
        Some(ParameterChoice::Uint64Param(value)) => Value::Integer(value.into()),
        Some(ParameterChoice::StringParam(text)) => Value::Text(text),
        Some(ParameterChoice::DoubleParam(_)) | None => Value::Other,
    };
    Values(parameters.into_iter().map(|(name, parameter)| (name, value(parameter))).collect())
}

/// What a message asks, without its model.
pub(super) fn asked(message: ModelInferRequest) -> Result<Asked, ApiError> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents, .. } = message;
    if !raw_input_contents.is_empty() && raw_input_contents.len() != inputs.len() {
        let problem = "expected one for each input, or none at all";
        return Err(invalid("raw_input_contents", problem));
    }
    let mut raw = raw_input_contents.into_iter();
    let tensors = inputs.into_iter().enumerate();
    let inputs = tensors.map(|(index, input)| tensor(index, input, raw.next())).collect::<Result<_, _>>()?;
    let outputs = outputs
        .into_iter()
        .map(|output| AskedOutput { name: output.name, parameters: values(output.parameters) });
    let id = (!id.is_empty()).then_some(id);
    Ok(Asked { id, parameters: values(parameters), inputs, outputs: outputs.collect() })
}

fn tensor(index: usize, input: InferInputTensor, raw: Option<Vec<u8>>) -> Result<Tensor, ApiError> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = input;
    let field = format!("inputs[{index}]");
    if values(parameters).has("shared_memory_region") {
        return Err(invalid(field, "shared memory is not supported"));
    }
    let data = match (raw, contents) {
        (Some(bytes), None) => Data::Raw(Bytes::from(bytes)),
        (None, Some(contents)) => elements(&datatype, contents),
        // No elements are no contents.
        (None, None) => elements(&datatype, InferTensorContents::default()),
        (Some(_), Some(_)) => {
            return Err(invalid(field, "expected either `contents` or `raw_input_contents`"));
        }
    };
    Ok(Tensor { name, datatype, shape, data })
}

/// The elements of the field that a datatype has.
fn elements(datatype: &str, contents: InferTensorContents) -> Data {
    match datatype {
        "BYTES" => Data::Strings(contents.bytes_contents),
        "INT32" => Data::Integers(contents.int_contents.into_iter().map(i64::from).collect()),
        "INT64" => Data::Integers(contents.int64_contents),
        _ => Data::Other,
    }
}

/// The message that answers.
pub(super) fn answer(response: InferResponse, rendering: Rendering) -> Result<ModelInferResponse, ApiError> {
    let answered = rendering.answer(response)?;
    // Readers take all outputs as bytes, or none.
    let is_raw = answered.outputs.iter().all(|output| output.is_binary);
    let mut raw_output_contents = Vec::new();
    let output = |OutputTensor { name, shape, elements, .. }: OutputTensor| {
        let datatype = elements.datatype().to_owned();
        let contents = if is_raw {
            raw_output_contents.push(elements.to_bytes());
            None
        } else {
            Some(contents(elements))
        };
        let shape = shape.into_iter().map(|length| i64::try_from(length).unwrap_or(i64::MAX)).collect();
        InferOutputTensor { name: name.to_owned(), datatype, shape, parameters: HashMap::new(), contents }
    };
    let outputs = answered.outputs.into_iter().map(output).collect();
    Ok(ModelInferResponse {
        model_name: answered.model.to_string(),
        model_version: answered.version.to_string(),
        id: answered.id.unwrap_or_default(),
        parameters: HashMap::new(),
        outputs,
        raw_output_contents,
    })
}

fn contents(elements: Elements) -> InferTensorContents {
    match elements {
        Elements::Floats(fp32_contents) => InferTensorContents { fp32_contents, ..Default::default() },
        Elements::Texts(texts) => {
            let bytes_contents = texts.into_iter().map(String::into_bytes).collect();
            InferTensorContents { bytes_contents, ..Default::default() }
        }
    }
}
