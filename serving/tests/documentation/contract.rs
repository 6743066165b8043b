//! `serving/proto/contract.txt`: what clients of the gRPC services were built with. It only grows: `make
//! docs` adds what is new, and what is gone, renumbered, renamed or of another type fails here, by its name.
//! Who means to break clients edits the file by hand.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::root;

const FILE: &str = "serving/proto/contract.txt";
const HEAD: &str = "# What clients of the gRPC services were built with, made of the .proto files. It only grows (`make docs`).\n";

/// Names of fields, values and methods, with what clients know of each.
#[derive(Debug, PartialEq, Eq)]
struct Contract(BTreeMap<String, String>);

impl Contract {
    /// Of all that is spoken.
    fn current() -> Self {
        let sets = [proto::v1::DESCRIPTORS, proto::oip::DESCRIPTORS, proto::tei::DESCRIPTORS];
        let files = sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file);
        let ours: Vec<_> = files.filter(|file| !file.package().starts_with("google.")).collect();
        Self::of(&ours)
    }

    fn of(files: &[FileDescriptorProto]) -> Self {
        let mut lines = BTreeMap::new();
        for file in files {
            let package = file.package();
            file.message_type.iter().for_each(|message| add_message(&mut lines, package, message));
            file.enum_type.iter().for_each(|kind| add_enum(&mut lines, package, kind));
            for service in &file.service {
                let name = format!("{package}.{}", service.name());
                lines.insert(name.clone(), "service".to_owned());
                for method in &service.method {
                    let stream = |is_one: bool| if is_one { "stream " } else { "" };
                    let (input, output) =
                        (stream(method.client_streaming()), stream(method.server_streaming()));
                    let (takes, gives) = (method.input_type(), method.output_type());
                    let line = format!("{input}{} -> {output}{}", bare(takes), bare(gives));
                    lines.insert(format!("{name}/{}", method.name()), line);
                }
            }
        }
        Self(lines)
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .filter_map(|line| line.split_once(" = "))
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
        )
    }

    fn text(&self) -> String {
        let lines: String = self.0.iter().map(|(name, what)| format!("{name} = {what}\n")).collect();
        format!("{HEAD}{lines}")
    }

    /// What clients of this contract have that `current` lacks or means otherwise, each by its name.
    fn broken_by(&self, current: &Self) -> Vec<String> {
        let mut broken = Vec::new();
        for (name, what) in &self.0 {
            match current.0.get(name) {
                Some(now) if now == what => {}
                Some(now) => broken.push(format!("{name} was {what} and is {now}")),
                None => {
                    // Of the same parent, with the same number and type: under another name.
                    let parent =
                        |name: &str| name.rsplit_once(['.', '/']).map(|(parent, _)| parent.to_owned());
                    let is_same = |(other, now): &(&String, &String)| {
                        *now == what && !self.0.contains_key(*other) && parent(other) == parent(name)
                    };
                    let renamed = current
                        .0
                        .iter()
                        .find(is_same)
                        .filter(|_| what.starts_with(|c: char| c.is_ascii_digit()));
                    broken.push(match renamed {
                        Some((other, _)) => format!("{name} is renamed to {other}"),
                        None => format!("{name} is gone"),
                    });
                }
            }
        }
        broken
    }
}

fn bare(name: &str) -> &str {
    name.trim_start_matches('.')
}

fn add_message(lines: &mut BTreeMap<String, String>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    lines.insert(name.clone(), "message".to_owned());
    for field in &message.field {
        let label = match field.label() {
            Label::Repeated => "repeated ",
            Label::Required => "required ",
            Label::Optional if field.proto3_optional() => "optional ",
            Label::Optional => "",
        };
        let kind = match field.r#type() {
            Type::Message | Type::Enum | Type::Group => bare(field.type_name()).to_owned(),
            scalar => format!("{scalar:?}").to_lowercase(),
        };
        // Synthetic ones stand for `optional`.
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
        let oneof = oneof.map(|index| format!(" of {}", message.oneof_decl[index as usize].name()));
        let line = format!("{} {label}{kind}{}", field.number(), oneof.unwrap_or_default());
        lines.insert(format!("{name}.{}", field.name()), line);
    }
    message.nested_type.iter().for_each(|inner| add_message(lines, &name, inner));
    message.enum_type.iter().for_each(|inner| add_enum(lines, &name, inner));
}

fn add_enum(lines: &mut BTreeMap<String, String>, scope: &str, kind: &EnumDescriptorProto) {
    let name = format!("{scope}.{}", kind.name());
    lines.insert(name.clone(), "enum".to_owned());
    for value in &kind.value {
        lines.insert(format!("{name}.{}", value.name()), value.number().to_string());
    }
}

/// The file and its text as it should be, once nothing that clients know is broken.
pub(crate) fn file() -> (&'static str, String) {
    let current = Contract::current();
    let released = std::fs::read_to_string(root().join(FILE)).unwrap_or_default();
    let broken = Contract::parse(&released).broken_by(&current);
    assert!(broken.is_empty(), "clients are broken:\n{}", broken.join("\n"));
    assert!(current.0.len() > 200, "the services were not found");
    (FILE, current.text())
}

#[cfg(test)]
mod tests {
    use prost_types::{
        EnumValueDescriptorProto, FieldDescriptorProto, MethodDescriptorProto, OneofDescriptorProto,
        ServiceDescriptorProto,
    };

    use super::*;

    fn field(name: &str, number: i32, kind: Type) -> FieldDescriptorProto {
        FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            r#type: Some(kind.into()),
            label: Some(Label::Optional.into()),
            ..FieldDescriptorProto::default()
        }
    }

    /// `service S { rpc Do(M) returns (M); }  message M { string a = 1; oneof o { bool b = 2; } }
    /// enum E { X = 0; Y = 1; }`
    fn released() -> FileDescriptorProto {
        let value = |name: &str, number| EnumValueDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            options: None,
        };
        let chosen = FieldDescriptorProto { oneof_index: Some(0), ..field("b", 2, Type::Bool) };
        FileDescriptorProto {
            package: Some("p".to_owned()),
            message_type: vec![DescriptorProto {
                name: Some("M".to_owned()),
                field: vec![field("a", 1, Type::String), chosen],
                oneof_decl: vec![OneofDescriptorProto { name: Some("o".to_owned()), options: None }],
                ..DescriptorProto::default()
            }],
            enum_type: vec![EnumDescriptorProto {
                name: Some("E".to_owned()),
                value: vec![value("X", 0), value("Y", 1)],
                ..EnumDescriptorProto::default()
            }],
            service: vec![ServiceDescriptorProto {
                name: Some("S".to_owned()),
                method: vec![MethodDescriptorProto {
                    name: Some("Do".to_owned()),
                    input_type: Some(".p.M".to_owned()),
                    output_type: Some(".p.M".to_owned()),
                    ..MethodDescriptorProto::default()
                }],
                options: None,
            }],
            ..FileDescriptorProto::default()
        }
    }

    #[test]
    fn what_breaks_clients_is_told_by_its_name() {
        let check = |change: fn(&mut FileDescriptorProto), expected: &[&str]| {
            let (before, mut after) = (released(), released());
            change(&mut after);
            assert_eq!(Contract::of(&[before]).broken_by(&Contract::of(&[after])), expected);
        };
        check(|_| (), &[]);
        // Additions.
        check(|file| file.message_type[0].field.push(field("c", 3, Type::Bytes)), &[]);
        check(
            |file| file.message_type.push(DescriptorProto { name: Some("N".into()), ..Default::default() }),
            &[],
        );
        check(
            |file| {
                file.enum_type[0].value.push(EnumValueDescriptorProto {
                    name: Some("Z".into()),
                    number: Some(2),
                    options: None,
                });
            },
            &[],
        );
        check(
            |file| {
                file.service[0]
                    .method
                    .push(MethodDescriptorProto { name: Some("Undo".into()), ..Default::default() });
            },
            &[],
        );
        // Fields.
        check(|file| drop(file.message_type[0].field.remove(0)), &["p.M.a is gone"]);
        check(|file| file.message_type[0].field[0].number = Some(9), &["p.M.a was 1 string and is 9 string"]);
        check(|file| file.message_type[0].field[0].name = Some("z".into()), &["p.M.a is renamed to p.M.z"]);
        check(
            |file| file.message_type[0].field[0].r#type = Some(Type::Bytes.into()),
            &["p.M.a was 1 string and is 1 bytes"],
        );
        check(
            |file| file.message_type[0].field[0].label = Some(Label::Repeated.into()),
            &["p.M.a was 1 string and is 1 repeated string"],
        );
        check(
            |file| file.message_type[0].field[1].oneof_index = None,
            &["p.M.b was 2 bool of o and is 2 bool"],
        );
        // Enums.
        check(|file| drop(file.enum_type[0].value.remove(1)), &["p.E.Y is gone"]);
        check(|file| file.enum_type[0].value[1].number = Some(5), &["p.E.Y was 1 and is 5"]);
        check(|file| file.enum_type[0].value[1].name = Some("W".into()), &["p.E.Y is renamed to p.E.W"]);
        // Methods and services.
        check(|file| file.service[0].method.clear(), &["p.S/Do is gone"]);
        check(
            |file| file.service[0].method[0].server_streaming = Some(true),
            &["p.S/Do was p.M -> p.M and is p.M -> stream p.M"],
        );
        check(
            |file| file.service[0].method[0].input_type = Some(".p.E".into()),
            &["p.S/Do was p.M -> p.M and is p.E -> p.M"],
        );
        check(|file| file.service.clear(), &["p.S is gone", "p.S/Do is gone"]);
        check(|file| file.message_type.clear(), &["p.M is gone", "p.M.a is gone", "p.M.b is gone"]);
    }

    #[test]
    fn a_contract_is_read_as_it_is_written() {
        let contract = Contract::of(&[released()]);
        assert_eq!(Contract::parse(&contract.text()), contract);
    }
}
