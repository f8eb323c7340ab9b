//! `[models.NAME] smart`: the thresholds between tiers, and the model that judges prompts.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::mistake::At;
use super::read::{Reader, Table, number, text};
use crate::routing::Strategy;
use crate::routing::smart::{COUNT, Classifier, Tiers, built_in};

/// Larger than any model that `strait router train` makes.
const LARGEST: u64 = 4 << 20;

/// Files that were read: models that name the same one share it, and judge each request once.
#[derive(Default)]
pub(super) struct Judges(HashMap<String, Option<Arc<Classifier>>>);

/// Reads the table of a model with so many `targets`; `None` where some of them are wrong.
pub(super) fn smart(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    strategy: Strategy,
    targets: Option<usize>,
    judges: &mut Judges,
) -> Option<Arc<Tiers>> {
    let own = reader.table(table, "smart", "models.*.smart");
    if strategy != Strategy::Smart {
        if let Some(own) = own {
            let message = "counts for strategy = \"smart\" alone";
            reader.mistakes.push(own.place.wrong(message));
        }
        return None;
    }
    if let Some(count) = targets.filter(|count| !COUNT.contains(count)) {
        let (least, most) = (COUNT.start(), COUNT.end());
        let message =
            format!("must hold {least} to {most} targets for strategy = \"smart\", not {count}");
        let place = table.place.missing("targets");
        reader.mistakes.push(place.wrong(message));
        return None;
    }
    let mut thresholds = targets.map(Tiers::even).unwrap_or_default();
    let mut classifier = None;
    if let Some(own) = own {
        if let Some(written) = reader.list(&own, "thresholds", number)
            && let Some(rising) = rising(reader, &written, targets)
        {
            thresholds = rising;
        }
        if let Some(path) = reader.get(&own, "model", text) {
            classifier = judges.get(reader, &path);
        }
    }
    Some(Arc::new(Tiers {
        thresholds,
        classifier: classifier.unwrap_or_else(built_in),
    }))
}

fn rising(
    reader: &mut Reader<'_>,
    written: &At<Vec<At<f64>>>,
    targets: Option<usize>,
) -> Option<Vec<f32>> {
    for (index, one) in written.value.iter().enumerate() {
        if one.value > 1.0 {
            reader.mistakes.push(one.wrong("must be from 0 to 1"));
            return None;
        }
        if index > 0 && written.value[index - 1].value >= one.value {
            reader
                .mistakes
                .push(one.wrong("must be above the one before: thresholds rise"));
            return None;
        }
    }
    let wanted = targets?.saturating_sub(1);
    if written.value.len() != wanted {
        let message = format!(
            "must hold one fewer than there are targets: {wanted}, not {}",
            written.value.len()
        );
        reader.mistakes.push(written.place.wrong(message));
        return None;
    }
    Some(written.value.iter().map(|one| one.value as f32).collect())
}

impl Judges {
    fn get(&mut self, reader: &mut Reader<'_>, path: &At<String>) -> Option<Arc<Classifier>> {
        if let Some(known) = self.0.get(&path.value) {
            return known.clone();
        }
        let read = match read(Path::new(&path.value)) {
            Ok(classifier) => Some(Arc::new(classifier)),
            Err(message) => {
                reader.mistakes.push(path.wrong(message));
                None
            }
        };
        self.0.insert(path.value.clone(), read.clone());
        read
    }
}

fn read(path: &Path) -> Result<Classifier, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST).read_to_end(&mut bytes))
        .map_err(|error| format!("can't be read: {error}"))?;
    Classifier::load(&bytes).map_err(|error| error.message.into_owned())
}
