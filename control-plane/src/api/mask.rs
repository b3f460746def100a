//! Answers of which the caller wants some fields only. Works on encoded messages by the descriptors that reflection
//! serves, so that a field needs no code here. Pure.

use super::errors::invalid;
use o1_proto::{manifest::closest, wire::DESCRIPTORS};
use prost::{
    Message,
    bytes::Bytes,
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint},
};
use prost_types::{DescriptorProto, FieldMask, FileDescriptorSet, field_descriptor_proto::Label};
use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};
use tonic::Status;

/// What the fields of a mask for the whole picture are fields of.
pub(super) const FLEET: &str = "FleetStatus";
/// The most paths of one mask.
const PATHS: usize = 100;

/// The fields that are wanted, by number; `None` as the value: the whole of it.
#[derive(Debug, Default)]
struct Fields(BTreeMap<u32, Option<Fields>>);

/// What is wanted of an answer.
#[derive(Debug)]
pub(super) struct Mask(Option<Fields>);

/// Every message of the contract, by its full name.
static MESSAGES: LazyLock<HashMap<String, DescriptorProto>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("the descriptors come out of the build");
    let files = set.file.into_iter().map(|file| (file.package().to_owned(), file.message_type));
    let named = files.flat_map(|(package, messages)| {
        messages.into_iter().map(move |message| (format!(".{package}.{}", message.name()), message))
    });
    named.collect()
});

impl Mask {
    /// What a caller asks for of a message of this name.
    ///
    /// # Errors
    /// It asks for a field that there is not.
    pub(super) fn of(mask: Option<FieldMask>, message: &str) -> Result<Self, Status> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.len() > PATHS {
            return Err(invalid(format!("fields: {} paths are too many, at most {PATHS}", paths.len())));
        }
        if paths.is_empty() || paths.iter().any(|path| path == "*") {
            return Ok(Self(None));
        }
        let mut fields = Fields::default();
        for path in &paths {
            fields.add(path, path, &format!(".o1.control.v1.{message}"))?;
        }
        Ok(Self(Some(fields)))
    }

    /// Leaves of an encoded message what is wanted.
    pub(super) fn cut(&self, whole: &Bytes) -> Bytes {
        let Some(fields) = &self.0 else { return whole.clone() };
        let mut some = Vec::with_capacity(whole.len());
        // It was encoded here: the fields are what they are.
        if fields.copy(whole, &mut some).is_some() { some.into() } else { whole.clone() }
    }

    /// Leaves of a message what is wanted.
    pub(super) fn apply<M: Message + Default>(&self, message: M) -> M {
        let Some(fields) = &self.0 else { return message };
        let whole = message.encode_to_vec();
        let mut some = Vec::with_capacity(whole.len());
        match fields.copy(&whole, &mut some).and_then(|()| M::decode(some.as_slice()).ok()) {
            Some(message) => message,
            // It was encoded here: the fields are what they are.
            None => message,
        }
    }
}

impl Fields {
    fn add(&mut self, rest: &str, path: &str, message: &str) -> Result<(), Status> {
        let name = rest.split('.').next().unwrap_or_default();
        let below = rest.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        let fields = MESSAGES.get(message).map(|message| message.field.as_slice()).unwrap_or_default();
        let Some(field) = fields.iter().find(|field| field.name() == name) else {
            let known = fields.iter().map(prost_types::FieldDescriptorProto::name);
            let shown: String = path.chars().take(100).collect();
            let hint =
                closest(name, known).map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
            let message = message.rsplit('.').next().unwrap_or_default();
            return Err(invalid(format!("fields: `{shown}`: {message} has no field `{name:.60}`{hint}")));
        };
        let number = u32::try_from(field.number()).unwrap_or_default();
        let Some(below) = below else {
            self.0.insert(number, None);
            return Ok(());
        };
        // An entry of a map is a message that only the descriptors know.
        if !MESSAGES.contains_key(field.type_name()) {
            let what = if field.label() == Label::Repeated { "the entries of a map" } else { "it" };
            return Err(invalid(format!(
                "fields: `{path:.100}`: `{name}` has no fields, {what} cannot be cut"
            )));
        }
        match self.0.entry(number).or_insert_with(|| Some(Self::default())) {
            Some(fields) => fields.add(below, path, field.type_name()),
            // The whole of it is wanted already.
            None => Self::default().add(below, path, field.type_name()),
        }
    }

    /// `None`: the bytes are no message.
    fn copy(&self, mut bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        while !bytes.is_empty() {
            let (number, wire) = decode_key(&mut bytes).ok()?;
            let before = bytes;
            let length = match wire {
                WireType::Varint => {
                    decode_varint(&mut bytes).ok()?;
                    before.len() - bytes.len()
                }
                WireType::SixtyFourBit => 8,
                WireType::ThirtyTwoBit => 4,
                WireType::LengthDelimited => {
                    let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                    let prefix = before.len() - bytes.len();
                    prefix.checked_add(length)?
                }
                WireType::StartGroup | WireType::EndGroup => return None,
            };
            let (value, rest) = before.split_at_checked(length)?;
            bytes = rest;
            match self.0.get(&number) {
                None => {}
                Some(None) => {
                    encode_key(number, wire, out);
                    out.extend_from_slice(value);
                }
                Some(Some(fields)) => {
                    let mut inner = value;
                    decode_varint(&mut inner).ok()?;
                    let mut some = Vec::with_capacity(inner.len());
                    fields.copy(inner, &mut some)?;
                    encode_key(number, wire, out);
                    encode_varint(some.len() as u64, out);
                    out.extend_from_slice(&some);
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::wire::{FleetStatus, NodeCounts, NodeIdentity, NodeStatus, UpstreamStatus};

    fn mask(paths: &[&str], message: &str) -> Result<Mask, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Mask::of(Some(FieldMask { paths }), message)
    }

    fn fleet() -> FleetStatus {
        let upstream = |name: &str| UpstreamStatus {
            name: name.to_owned(),
            state: 2,
            nodes_reachable: 3,
            ..UpstreamStatus::default()
        };
        FleetStatus {
            as_of: Some(prost_types::Timestamp { seconds: 7, nanos: 9 }),
            nodes: Some(NodeCounts { connected: 2, synced: 1, ..NodeCounts::default() }),
            upstreams: vec![upstream("a"), upstream("b")],
            ..FleetStatus::default()
        }
    }

    #[test]
    fn a_mask_leaves_what_it_names_through_messages_and_lists() {
        let masked =
            mask(&["as_of", "nodes.connected", "upstreams.name"], "FleetStatus").unwrap().apply(fleet());
        let upstream = |name: &str| UpstreamStatus { name: name.to_owned(), ..UpstreamStatus::default() };
        let expected = FleetStatus {
            as_of: fleet().as_of,
            nodes: Some(NodeCounts { connected: 2, ..NodeCounts::default() }),
            upstreams: vec![upstream("a"), upstream("b")],
            ..FleetStatus::default()
        };
        assert_eq!(masked, expected);
    }

    #[test]
    fn no_mask_an_empty_one_and_a_star_leave_everything_and_the_whole_wins_over_its_parts() {
        for whole in
            [Mask::of(None, "FleetStatus"), mask(&[], "FleetStatus"), mask(&["as_of", "*"], "FleetStatus")]
        {
            assert_eq!(whole.unwrap().apply(fleet()), fleet());
        }
        for paths in [["nodes", "nodes.connected"], ["nodes.connected", "nodes"]] {
            assert_eq!(mask(&paths, "FleetStatus").unwrap().apply(fleet()).nodes, fleet().nodes);
        }
    }

    #[test]
    fn maps_are_taken_whole() {
        let labels = [("zone".to_owned(), "a".to_owned())].into();
        let node = NodeIdentity { node_id: "n1".into(), labels, ..NodeIdentity::default() };
        let node = NodeStatus { node: Some(node), ..NodeStatus::default() };
        assert_eq!(mask(&["node.labels", "node.node_id"], "NodeStatus").unwrap().apply(node.clone()), node);
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        for (message, path, said) in [
            (
                "FleetStatus",
                "upstream",
                "`upstream`: FleetStatus has no field `upstream`; did you mean `upstreams`?",
            ),
            ("FleetStatus", "upstreams.nam", "UpstreamStatus has no field `nam`; did you mean `name`?"),
            ("FleetStatus", "upstreams.name.x", "`name` has no fields"),
            ("FleetStatus", "", "FleetStatus has no field ``"),
            ("NodeStatus", "node.labels.zone", "`labels` has no fields"),
        ] {
            let error = mask(&[path], message).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
            assert!(error.message().contains(said), "{path}: {}", error.message());
        }
        let many = vec!["as_of"; PATHS + 1];
        assert!(mask(&many, "FleetStatus").is_err());
    }
}
