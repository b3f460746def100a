//! `docs/api.md` says of each method what the protos say of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by ending")]

use o1_proto::wire::DESCRIPTORS;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

const BEGIN: &str = "<!-- services: generated from proto/o1/control/v1 -->\n";
const END: &str = "<!-- end of services -->";
/// In the order in which a reader needs them; what nodes say comes last.
const SERVICES: [&str; 5] =
    ["StatusService", "ConfigService", "AdminService", "InspectService", "NodeService"];

/// The comments of a file, by the path of what they stand before.
struct Comments(BTreeMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let places = file.source_code_info.as_ref().map(|info| info.location.as_slice()).unwrap_or_default();
        let comment = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let noted = places
            .iter()
            .filter_map(|place| Some((place.path.clone(), comment(place.leading_comments.as_deref()?))));
        Self(noted.collect())
    }

    fn at(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("", String::as_str).trim()
    }
}

/// `google.protobuf.Duration` → `Duration`, `repeated` and `optional` in front.
fn type_of(field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().rsplit('.').next().unwrap().to_owned(),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {name}"),
        _ if field.proto3_optional() => format!("optional {name}"),
        _ => name,
    }
}

/// What a request may hold, as a list.
fn fields(page: &mut String, message: &DescriptorProto, index: usize, comments: &Comments) {
    for (at, field) in message.field.iter().enumerate() {
        let path = [4, index, 2, at].map(|one| i32::try_from(one).unwrap());
        let comment = comments.at(&path).replace('\n', " ");
        let colon = if comment.is_empty() { "" } else { ": " };
        writeln!(page, "- `{}` {}{colon}{comment}", field.name(), type_of(field)).unwrap();
    }
}

fn method(
    page: &mut String,
    method: &MethodDescriptorProto,
    comment: &str,
    messages: &BTreeMap<String, String>,
) {
    let name = |name: &str| name.rsplit('.').next().unwrap().to_owned();
    let stream = |is: bool| if is { "stream " } else { "" };
    let (input, output) = (name(method.input_type()), name(method.output_type()));
    let (asks, answers) = (stream(method.client_streaming()), stream(method.server_streaming()));
    writeln!(page, "\n#### {}\n\n`{asks}{input}` → `{answers}{output}`\n", method.name()).unwrap();
    if !comment.is_empty() {
        writeln!(page, "{comment}\n").unwrap();
    }
    page.push_str(messages.get(method.input_type()).map_or("", String::as_str));
}

fn services() -> String {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let files: Vec<_> = set.file.iter().filter(|file| file.package() == "o1.control.v1").collect();
    let mut requests = BTreeMap::new();
    for file in &files {
        let comments = Comments::of(file);
        for (index, message) in file.message_type.iter().enumerate() {
            let mut list = String::new();
            fields(&mut list, message, index, &comments);
            requests.insert(format!(".o1.control.v1.{}", message.name()), list);
        }
    }
    let mut page = String::new();
    for wanted in SERVICES {
        let found = files.iter().find_map(|file| {
            let at = file.service.iter().position(|service| service.name() == wanted)?;
            Some((file, at))
        });
        let (file, at) = found.expect("it is in the contract");
        let (comments, number) = (Comments::of(file), i32::try_from(at).unwrap());
        let source = file.name().rsplit('/').next().unwrap();
        writeln!(page, "\n### {wanted}\n\n{}\n", comments.at(&[6, number])).unwrap();
        writeln!(page, "[{source}](../proto/{}) has the messages.", file.name()).unwrap();
        for (index, one) in file.service[at].method.iter().enumerate() {
            let comment = comments.at(&[6, number, 2, i32::try_from(index).unwrap()]);
            method(&mut page, one, comment, &requests);
        }
    }
    let served: usize = files.iter().map(|file| file.service.len()).sum();
    assert_eq!(served, SERVICES.len(), "a service is missing in the page");
    page
}

#[test]
fn the_page_of_the_api_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for services");
    let (found, after) = rest.split_once(END).expect("and an end of it");
    let services = format!("{}\n", services().trim_end());
    if std::env::var_os("O1_BLESS").is_some() {
        fs::write(path, format!("{before}{BEGIN}{services}{END}{after}")).unwrap();
    } else {
        assert!(found == services, "docs/api.md is stale: O1_BLESS=1 cargo test -p o1-proto --test api_page");
    }
}

#[test]
fn each_method_says_what_it_does() {
    let page = services();
    for method in page.split("\n#### ").skip(1) {
        let mut lines = method.lines();
        let name = lines.next().unwrap();
        let said = lines.nth(3).unwrap_or_default();
        let known = ["GetStatus", "ListNodes", "ListUpstreams", "GetConfig", "ListConfigRevisions"];
        assert!(!said.is_empty() || known.contains(&name), "{name} has no comment");
    }
}
