//! Large configurations come in parts; here they are put together again. Pure. It must never hold more than one update,
//! nor more of it than the contract allows.

use o1_proto::wire::{ConfigPart, ConfigUpdate};
use prost::Message as _;

/// The most parts of an update.
const PARTS: u32 = 4096;
/// The most content of a part, bytes.
const PART: usize = 32 << 10;

/// The update that is coming.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    nonce: u64,
    parts: u32,
    /// Of them, those that are there.
    came: u32,
    content: Vec<u8>,
}

impl Assembly {
    /// The update, once this was its last part.
    ///
    /// # Errors
    /// How the parts contradict the contract.
    pub fn take(&mut self, part: &ConfigPart) -> Result<Option<ConfigUpdate>, String> {
        if part.part == 1 {
            *self = Self { nonce: part.nonce, parts: part.parts, ..Self::default() };
        }
        let expected = (self.nonce, self.came + 1, self.parts);
        if (part.nonce, part.part, part.parts) != expected {
            let ConfigPart { nonce, part, parts, .. } = part;
            return Err(format!("part {part} of {parts} of update {nonce} came where another was due"));
        }
        if part.parts > PARTS || part.content.len() > PART {
            return Err(format!("{} parts of {} bytes are too many", part.parts, part.content.len()));
        }
        self.came += 1;
        self.content.extend_from_slice(&part.content);
        if self.came < self.parts {
            return Ok(None);
        }
        let Self { nonce, content, .. } = std::mem::take(self);
        let update = ConfigUpdate::decode(content.as_slice())
            .map_err(|error| format!("the parts of update {nonce} are no update: {error}"))?;
        Ok(Some(ConfigUpdate { nonce, ..update }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::wire::{Resource, ResourceKey};

    fn cut(update: &ConfigUpdate, nonce: u64, size: usize) -> Vec<ConfigPart> {
        let content = update.encode_to_vec();
        let parts = u32::try_from(content.len().div_ceil(size)).unwrap();
        let parts = (1..=parts).zip(content.chunks(size)).map(move |(part, chunk)| ConfigPart {
            nonce,
            part,
            parts,
            content: chunk.to_vec().into(),
        });
        parts.collect()
    }

    fn update(bytes: usize) -> ConfigUpdate {
        let key = ResourceKey { kind: 1, name: "x".into() };
        let resource = Resource { key: Some(key), payload: vec![7; bytes].into(), ..Resource::default() };
        ConfigUpdate { resources: vec![resource], ..ConfigUpdate::default() }
    }

    #[test]
    fn parts_are_put_together_and_an_update_that_begins_anew_replaces_one_that_did_not_end() {
        let mut assembly = Assembly::default();
        let whole = update(100_000);
        for part in cut(&update(50_000), 6, 1000).into_iter().take(7) {
            assert_eq!(assembly.take(&part), Ok(None));
        }
        let mut parts = cut(&whole, 7, PART);
        let last = parts.pop().unwrap();
        for part in parts {
            assert_eq!(assembly.take(&part), Ok(None));
        }
        assert_eq!(assembly.take(&last), Ok(Some(ConfigUpdate { nonce: 7, ..whole })));
        assert!(assembly.take(&last).is_err(), "nothing of it is left");
    }

    #[test]
    fn what_is_missing_doubled_foreign_or_too_large_is_said() {
        let parts = || cut(&update(5000), 3, 1000);
        let wrong: [(&str, Vec<ConfigPart>); 6] = [
            ("a gap", vec![parts()[0].clone(), parts()[2].clone()]),
            ("twice", vec![parts()[0].clone(), parts()[1].clone(), parts()[1].clone()]),
            ("no beginning", vec![parts()[1].clone()]),
            ("another update", vec![parts()[0].clone(), ConfigPart { nonce: 4, ..parts()[1].clone() }]),
            ("too many", vec![ConfigPart { parts: PARTS + 1, ..parts()[0].clone() }]),
            ("too large", cut(&update(PART * 2), 3, PART + 1)),
        ];
        for (what, parts) in wrong {
            let mut assembly = Assembly::default();
            assert!(parts.iter().map(|part| assembly.take(part)).any(|taken| taken.is_err()), "{what}");
        }
        let mut parts = parts();
        let last = parts.len() - 1;
        parts[last].content = vec![0xff; 4].into();
        let mut assembly = Assembly::default();
        assert!(parts.iter().map(|part| assembly.take(part)).next_back().unwrap().is_err(), "rubbish");
    }
}
