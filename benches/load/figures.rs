//! The table of figures: what is asked of the floor, what is asked of strait, and the goal.

use crate::wire::{Dialect, Size};

/// One line of the printed table. A new figure is a new row of [`FIGURES`].
pub struct Figure {
    /// For `--only`.
    pub name: &'static str,
    pub title: &'static str,
    pub measured: Measured,
    pub goal: Goal,
}

pub enum Measured {
    /// CPU time of the gateway, divided by what it served in that time.
    Cpu(Load),
    /// Median time from the request sent to the first byte of the answer's body, one request at a time.
    FirstToken(Load),
    /// Pauses of 35 to 45 ms in streams whose chunks are 5 ms apart: the mark of Nagle with delayed acknowledgement.
    Stalls(Load),
    /// Resident memory of a process of its own: at rest, then after these loads.
    Memory(&'static [Load]),
    /// From the start of the process to its first answer to a model request.
    Start(Load),
}

/// What the goal in the table means: for CPU a ratio to the floor, otherwise see the unit of the figure.
pub struct Goal {
    /// What has to be reached now; `None` where only the end is set.
    pub now: Option<f64>,
    pub end: f64,
}

/// A load, the same for both sides but for what has to differ.
#[derive(Clone, Copy)]
pub struct Load {
    pub per: Per,
    pub connections: usize,
    pub size: Size,
    /// How the client speaks to strait.
    pub client: Dialect,
    /// How the provider speaks; the floor's client speaks this too, because the floor can't translate.
    pub provider: Dialect,
    pub scene: &'static Scene,
    pub cache: bool,
    /// Strait keeps a row of each exchange: the journal on the path, the database beside it.
    pub ledger: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Per {
    Request,
    Chunk,
}

/// What the fake provider plays; the first segment of the request's path chooses it.
pub struct Scene {
    pub name: &'static str,
    pub stream: Option<Stream>,
}

/// Chunks of one token each.
#[derive(Clone, Copy)]
pub struct Stream {
    pub chunks: u64,
    pub gap_ms: u64,
}

pub const PLAIN: Scene = Scene {
    name: "plain",
    stream: None,
};
/// Long streams at the pace of a fast model.
pub const LONG: Scene = Scene {
    name: "long",
    stream: Some(Stream {
        chunks: 100,
        gap_ms: 20,
    }),
};
/// The first chunk leaves with the head; the others follow so that it isn't alone for want of others.
pub const PROMPT: Scene = Scene {
    name: "prompt",
    stream: Some(Stream {
        chunks: 3,
        gap_ms: 1,
    }),
};
pub const BRISK: Scene = Scene {
    name: "brisk",
    stream: Some(Stream {
        chunks: 100,
        gap_ms: 5,
    }),
};
pub const SCENES: [&Scene; 4] = [&PLAIN, &LONG, &PROMPT, &BRISK];

const PASS: Load = Load {
    per: Per::Request,
    connections: 64,
    size: Size::OneKib,
    client: Dialect::Openai,
    provider: Dialect::Openai,
    scene: &PLAIN,
    cache: false,
    ledger: false,
};
const PASS_LARGE: Load = Load {
    size: Size::SixtyKib,
    ..PASS
};
const CHUNKS: Load = Load {
    per: Per::Chunk,
    connections: 128,
    scene: &LONG,
    ..PASS
};

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "pass-1k",
        title: "CPU per request, 1 KiB body, pass",
        measured: Measured::Cpu(PASS),
        goal: Goal {
            now: Some(1.3),
            end: 1.0,
        },
    },
    Figure {
        name: "pass-1k-ledger",
        title: "the same with the ledger's rows, written into SQLite",
        measured: Measured::Cpu(Load {
            ledger: true,
            ..PASS
        }),
        goal: Goal {
            now: None,
            end: 1.0,
        },
    },
    Figure {
        name: "pass-60k",
        title: "CPU per request, 60 KiB body, pass",
        measured: Measured::Cpu(PASS_LARGE),
        goal: Goal {
            now: Some(1.4),
            end: 1.1,
        },
    },
    Figure {
        name: "chunk-pass",
        title: "CPU per streamed chunk, pass, 128 streams",
        measured: Measured::Cpu(CHUNKS),
        goal: Goal {
            now: Some(1.3),
            end: 1.0,
        },
    },
    Figure {
        name: "translate-1k",
        title: "CPU per request, OpenAI in, Anthropic out, 1 KiB",
        measured: Measured::Cpu(Load {
            provider: Dialect::Anthropic,
            ..PASS
        }),
        goal: Goal {
            now: Some(1.5),
            end: 1.3,
        },
    },
    Figure {
        name: "translate-gemini-1k",
        title: "CPU per request, OpenAI in, Gemini out, 1 KiB",
        measured: Measured::Cpu(Load {
            provider: Dialect::Gemini,
            ..PASS
        }),
        goal: Goal {
            now: Some(1.5),
            end: 1.3,
        },
    },
    Figure {
        name: "chunk-translate",
        title: "CPU per streamed chunk, translated, 128 streams",
        measured: Measured::Cpu(Load {
            provider: Dialect::Anthropic,
            ..CHUNKS
        }),
        goal: Goal {
            now: Some(1.5),
            end: 1.5,
        },
    },
    Figure {
        name: "cache-hit",
        title: "CPU per cache hit, 1 KiB body",
        measured: Measured::Cpu(Load {
            cache: true,
            ..PASS
        }),
        goal: Goal {
            now: Some(0.6),
            end: 0.45,
        },
    },
    Figure {
        name: "first-token",
        title: "time to first token, p50, pass",
        measured: Measured::FirstToken(Load {
            connections: 1,
            scene: &PROMPT,
            ..PASS
        }),
        goal: Goal {
            now: None,
            end: 50.0,
        },
    },
    Figure {
        name: "first-token-translate",
        title: "time to first token, p50, translated",
        measured: Measured::FirstToken(Load {
            connections: 1,
            scene: &PROMPT,
            provider: Dialect::Anthropic,
            ..PASS
        }),
        goal: Goal {
            now: None,
            end: 50.0,
        },
    },
    Figure {
        name: "stalls",
        title: "pauses of 35-45 ms in streams of 5 ms",
        measured: Measured::Stalls(Load {
            per: Per::Chunk,
            connections: 4,
            scene: &BRISK,
            ..PASS
        }),
        goal: Goal {
            now: Some(0.0),
            end: 0.0,
        },
    },
    Figure {
        name: "memory",
        title: "resident memory",
        measured: Measured::Memory(&[PASS, PASS_LARGE, CHUNKS]),
        goal: Goal {
            now: Some(40.0),
            end: 30.0,
        },
    },
    Figure {
        name: "start",
        title: "start to first answered request",
        measured: Measured::Start(PASS),
        goal: Goal {
            now: None,
            end: 300.0,
        },
    },
];

/// Most that memory may be after load, in MiB; its goal at rest stands in the table.
pub const MEMORY_AFTER_LOAD_MIB: f64 = 60.0;
