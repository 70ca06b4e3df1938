//! What the fleet needs on the server: streams, buckets and consumers as they should be, how what is there differs from
//! that, and what `maitred init` does about it.
//!
//! Pure. It holds only settings that maitred has an opinion on; all others are the operator's and are never compared or
//! changed. Buckets are streams under another name, and are treated as such.

use std::fmt;
use std::time::Duration;

mod desired;
#[cfg(test)]
mod tests;

/// What kind of thing something on the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A stream.
    Stream,
    /// A bucket of keys and values.
    KeyValue,
    /// A bucket of objects.
    Objects,
    /// A durable consumer.
    Consumer,
}

/// Something on the server, as it is named to a person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its name; of a bucket the bucket's, not its stream's.
    pub name: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Stream => "stream",
            Kind::KeyValue => "key-value bucket",
            Kind::Objects => "object bucket",
            Kind::Consumer => "consumer",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// Which messages leave a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Those past its limits: the only one that can be replayed.
    Limits,
    /// Those that nobody waits for.
    Interest,
    /// Those that were acknowledged.
    WorkQueue,
}

/// Where a stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory.
    Memory,
}

/// What gives way in a full stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// The oldest message.
    Old,
    /// The new one.
    New,
}

/// A stream, or the stream behind a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// What it is.
    pub object: Object,
    /// Subjects that it keeps.
    pub subjects: Vec<String>,
    /// Which messages leave it.
    pub retention: Retention,
    /// Where it is kept.
    pub storage: Storage,
    /// What gives way when it is full.
    pub discard: Discard,
    /// Age at which a message leaves it.
    pub max_age: Duration,
    /// Bytes that it may hold; `None`: as many as the server has.
    pub max_bytes: Option<u64>,
    /// Messages of one subject that it may hold; `None`: any number.
    pub max_per_subject: Option<u64>,
    /// How long a message id is remembered.
    pub duplicate_window: Duration,
    /// Whether messages are read without asking the leader.
    pub allow_direct: bool,
    /// Whether a publisher may replace all older messages by its own.
    pub allow_rollup: bool,
    /// Whether single messages can be deleted.
    pub deny_delete: bool,
    /// Copies.
    pub replicas: u64,
}

/// A durable consumer, as workers share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// What it is called.
    pub object: Object,
    /// The stream that it reads.
    pub stream: String,
    /// Subjects that it reads; empty: all.
    pub filter: Vec<String>,
    /// Whether workers ask for messages; else the server sends them.
    pub pull: bool,
    /// Whether it starts at the stream's first message.
    pub from_start: bool,
    /// Whether each message is acknowledged for itself.
    pub explicit_ack: bool,
    /// A lease that is not renewed for this long ends.
    pub ack_wait: Duration,
    /// Deliveries after which a message is given up; `None`: never.
    pub max_deliver: Option<u64>,
    /// Messages that all workers may hold together.
    pub max_ack_pending: u64,
    /// Messages that one pull may ask for; `None`: any number.
    pub max_batch: Option<u64>,
    /// Waits that replace `ack_wait`. Never any: they would stretch the delays that workers ask for.
    pub backoff: Vec<Duration>,
}

/// Streams, buckets and consumers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Streams and buckets.
    pub streams: Vec<Stream>,
    /// Consumers of the streams.
    pub consumers: Vec<Consumer>,
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// One of a few.
    Word(&'static str),
    /// Names, in any order.
    Names(Vec<String>),
    /// A number; `None`: no limit.
    Limit(Option<u64>),
    /// A span of time.
    Time(Duration),
    /// Spans of time.
    Times(Vec<Duration>),
    /// Yes or no.
    Switch(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &Duration| humantime_serde::re::humantime::format_duration(*time).to_string();
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Names(names) if names.is_empty() => f.write_str("none"),
            Self::Names(names) => f.write_str(&names.join(", ")),
            Self::Limit(Some(number)) => write!(f, "{number}"),
            Self::Limit(None) | Self::Time(Duration::ZERO) => f.write_str("unlimited"),
            Self::Time(span) => f.write_str(&time(span)),
            Self::Times(spans) if spans.is_empty() => f.write_str("none"),
            Self::Times(spans) => f.write_str(&spans.iter().map(time).collect::<Vec<_>>().join(", ")),
            Self::Switch(on) => write!(f, "{on}"),
        }
    }
}

/// A setting that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of what.
    pub object: Object,
    /// Which setting.
    pub field: &'static str,
    /// What it is.
    pub actual: Value,
    /// What it should be.
    pub desired: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, field, actual, desired } = self;
        write!(f, "{object}: {field} is {actual}, {desired} is wanted")
    }
}

impl Difference {
    /// Whether the server changes it in what exists; else that must be deleted and made anew, and its content is lost.
    pub fn is_in_place(&self) -> bool {
        let fixed = match self.object.kind {
            Kind::Consumer => ["delivery", "starts_at", "ack"].as_slice(),
            Kind::Stream | Kind::KeyValue | Kind::Objects => {
                // A stream that once forbade deleting keeps to that.
                let forbids = self.actual == Value::Switch(true);
                if self.field == "deny_delete" && forbids {
                    return false;
                }
                ["retention", "storage"].as_slice()
            }
        };
        !fixed.contains(&self.field)
    }
}

/// What is to be done with something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is missing.
    Create,
    /// Some settings are to be changed.
    Change(Vec<Difference>),
    /// It is as it should be.
    Keep,
    /// It cannot become what it should be; these settings are in the way.
    Refuse(Vec<Difference>),
}

/// One thing, and what is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The thing.
    pub object: Object,
    /// What is to be done.
    pub action: Action,
}

impl Topology {
    /// What is to be done so that `actual` becomes this, streams before the consumers that read them.
    pub fn plan(&self, actual: &Self) -> Vec<Step> {
        let streams = self.streams.iter().map(|stream| {
            step(&stream.object, stream.settings(), actual.stream(&stream.object).map(Stream::settings))
        });
        let consumers = self.consumers.iter().map(|consumer| {
            step(
                &consumer.object,
                consumer.settings(),
                actual.consumer(&consumer.object).map(Consumer::settings),
            )
        });
        streams.chain(consumers).collect()
    }

    /// The stream or bucket, if it is among them.
    pub fn stream(&self, object: &Object) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.object == *object)
    }

    /// The consumer, if it is among them.
    pub fn consumer(&self, object: &Object) -> Option<&Consumer> {
        self.consumers.iter().find(|consumer| consumer.object == *object)
    }
}

/// How what is there differs from what is desired, setting by setting. What is missing altogether is not among it.
pub fn differences(desired: &Topology, actual: &Topology) -> Vec<Difference> {
    let of = |step: Step| match step.action {
        Action::Change(found) | Action::Refuse(found) => found,
        Action::Create | Action::Keep => Vec::new(),
    };
    desired.plan(actual).into_iter().flat_map(of).collect()
}

type Settings = Vec<(&'static str, Value)>;

/// Both lists hold the same settings in the same order: they come from the same function.
fn step(object: &Object, desired: Settings, actual: Option<Settings>) -> Step {
    let object = object.clone();
    let Some(actual) = actual else { return Step { object, action: Action::Create } };
    let found: Vec<Difference> = desired
        .into_iter()
        .zip(actual)
        .filter(|(desired, actual)| desired != actual)
        .map(|((field, desired), (_, actual))| Difference { object: object.clone(), field, actual, desired })
        .collect();
    let (changeable, fixed): (Vec<_>, Vec<_>) = found.into_iter().partition(Difference::is_in_place);
    let action = match (changeable.is_empty(), fixed.is_empty()) {
        (_, false) => Action::Refuse(fixed),
        (false, true) => Action::Change(changeable),
        (true, true) => Action::Keep,
    };
    Step { object, action }
}

impl Stream {
    /// What it is called on the server.
    pub fn server_name(&self) -> String {
        match self.object.kind {
            Kind::KeyValue => format!("KV_{}", self.object.name),
            Kind::Objects => format!("OBJ_{}", self.object.name),
            Kind::Stream | Kind::Consumer => self.object.name.clone(),
        }
    }

    fn settings(&self) -> Settings {
        let retention = match self.retention {
            Retention::Limits => "limits",
            Retention::Interest => "interest",
            Retention::WorkQueue => "workqueue",
        };
        let storage = match self.storage {
            Storage::File => "file",
            Storage::Memory => "memory",
        };
        let discard = match self.discard {
            Discard::Old => "old",
            Discard::New => "new",
        };
        vec![
            ("subjects", names_in_order(&self.subjects)),
            ("retention", Value::Word(retention)),
            ("storage", Value::Word(storage)),
            ("discard", Value::Word(discard)),
            ("max_age", Value::Time(self.max_age)),
            ("max_bytes", Value::Limit(self.max_bytes)),
            ("max_msgs_per_subject", Value::Limit(self.max_per_subject)),
            ("duplicate_window", Value::Time(self.duplicate_window)),
            ("allow_direct", Value::Switch(self.allow_direct)),
            ("allow_rollup", Value::Switch(self.allow_rollup)),
            ("deny_delete", Value::Switch(self.deny_delete)),
            ("replicas", Value::Limit(Some(self.replicas))),
        ]
    }
}

impl Consumer {
    fn settings(&self) -> Settings {
        let or =
            |so: bool, word: &'static str, other: &'static str| Value::Word(if so { word } else { other });
        vec![
            ("filter", names_in_order(&self.filter)),
            ("delivery", or(self.pull, "pull", "push")),
            ("starts_at", or(self.from_start, "first message", "elsewhere")),
            ("ack", or(self.explicit_ack, "explicit", "other")),
            ("ack_wait", Value::Time(self.ack_wait)),
            ("max_deliver", Value::Limit(self.max_deliver)),
            ("max_ack_pending", Value::Limit(Some(self.max_ack_pending))),
            ("max_batch", Value::Limit(self.max_batch)),
            ("backoff", Value::Times(self.backoff.clone())),
        ]
    }
}

fn names_in_order(names: &[String]) -> Value {
    let mut names = names.to_vec();
    names.sort_unstable();
    Value::Names(names)
}
