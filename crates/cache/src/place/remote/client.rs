//! Requests to a server of the remote cache, from threads that wait for the answer.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as proto;
use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use bazel_remote_apis::google::bytestream::{ReadRequest, WriteRequest};
use data_encoding::HEXLOWER;
use proto::action_cache_client::ActionCacheClient;
use proto::capabilities_client::CapabilitiesClient;
use proto::content_addressable_storage_client::ContentAddressableStorageClient;
use tokio::runtime::Runtime;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::{BATCH, SHA256};
use crate::PATIENCE;
use crate::rate::{Rate, Slow};
use packages::Fetcher;

/// Bytes of one message of a stream.
const PIECE: usize = 512 << 10;
const DIGESTS: usize = 10_000;
/// How long a server may take to keep a file, and the bytes that it takes in each second at least.
const KEEPS_WITHIN: Duration = Duration::from_secs(30);
const FLOOR: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Refused {
    pub problem: String,
    /// This call was refused; others may not be.
    pub is_of_call: bool,
    /// What the call names may be unknown there.
    is_of_name: bool,
    pub is_slow: bool,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let said: String = status.message().chars().take(300).collect();
        let said: String = said.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
        let hint = match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                "; a token for it goes into ~/.netrc or apt's auth.conf, as for any server"
            }
            _ => "",
        };
        let problem = format!("the server answers {:?} ({said}){hint}", status.code());
        let of_calls = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::FailedPrecondition,
            Code::OutOfRange,
            Code::ResourceExhausted,
            Code::DataLoss,
            Code::Internal,
            Code::Unknown,
        ];
        let is_slow = status.message() == SLOW;
        let is_of_name = [Code::InvalidArgument, Code::NotFound].contains(&status.code());
        Self { problem, is_of_call: of_calls.contains(&status.code()), is_of_name, is_slow }
    }
}

fn refused(problem: impl Into<String>) -> Refused {
    Refused { problem: problem.into(), is_of_call: false, is_of_name: false, is_slow: false }
}

/// What is said of a file that takes too long.
const SLOW: &str = "too slow";

pub(super) struct Client {
    address: String,
    instance: String,
    rate: Rate,
    /// Opened by the first question.
    open: OnceLock<Result<Open, String>>,
}

struct Open {
    /// Bytes of several files in one message, at most.
    batch: u64,
    runtime: Runtime,
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Client({}, {:?})", self.address, self.instance)
    }
}

/// Waits for an answer, and not for ever.
async fn within<T>(patience: Duration, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let silent = |_| Status::deadline_exceeded(format!("no answer within {} s", patience.as_secs()));
    tokio::time::timeout(patience, answer).await.map_err(silent)?
}

impl Client {
    pub(super) fn of(text: &str, rate: Rate) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("grpc", rest)) => ("http", rest),
            Some((_, rest)) => ("https", rest),
            None => return Err("it has no scheme".to_owned()),
        };
        let (host, instance) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || host.starts_with(':') {
            return Err("it names no host".to_owned());
        }
        if host.contains('@') {
            return Err("it has a user or a password: these go into ~/.netrc or apt's auth.conf".to_owned());
        }
        let address = format!("{scheme}://{host}");
        Endpoint::from_shared(address.clone()).map_err(|_| format!("`{host}` is not a host and a port"))?;
        Ok(Self { address, instance: instance.trim_matches('/').to_owned(), rate, open: OnceLock::new() })
    }

    fn open(&self) -> Result<&Open, Refused> {
        self.open.get_or_init(|| self.connect()).as_ref().map_err(|problem| refused(problem.clone()))
    }

    fn connect(&self) -> Result<Open, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| said(&error))?;
        let mut endpoint = Endpoint::from_shared(self.address.clone()).map_err(|error| said(&error))?;
        endpoint = endpoint
            .connect_timeout(PATIENCE)
            .user_agent(concat!("imgbuild/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| said(&error))?;
        if self.address.starts_with("https:") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(|error| said(&error))?;
        }
        let authorization = Fetcher::with_patience(PATIENCE).agent_for(&self.address)?.1;
        let authorization = authorization.and_then(|header| header.parse().ok());
        let channel = runtime.block_on(async { tokio::time::timeout(PATIENCE, endpoint.connect()).await });
        let channel = match channel {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(causes(&error)),
            Err(_) => return Err(format!("no connection within {} s", PATIENCE.as_secs())),
        };
        let mut open = Open { batch: BATCH, runtime, channel, authorization };
        open.batch = self.check(&open).map_err(|refused| match refused.is_of_name {
            true => format!("{}; check the instance name at the end of the address", refused.problem),
            false => refused.problem,
        })?;
        Ok(open)
    }

    /// How many bytes of files it takes and gives in one message.
    pub(super) fn batch(&self) -> u64 {
        self.open().map_or(BATCH, |open| open.batch)
    }

    /// Whether it speaks of the same digests; gives how many bytes go in one message.
    fn check(&self, open: &Open) -> Result<u64, Refused> {
        let mut client = CapabilitiesClient::new(open.channel.clone());
        let ask = proto::GetCapabilitiesRequest { instance_name: self.instance.clone() };
        let answer = open.runtime.block_on(within(PATIENCE, client.get_capabilities(open.request(ask))))?.into_inner();
        match answer.cache_capabilities {
            Some(can) if can.digest_functions.contains(&SHA256) => Ok(match can.max_batch_total_size_bytes {
                // None is named.
                ..=0 => BATCH,
                most => BATCH.min(most.cast_unsigned()),
            }),
            Some(_) => Err(refused("the server does not support SHA-256 digests")),
            None => Err(refused("the server is not a cache")),
        }
    }

    /// The result of an action, if there is one; its output file `inline` may be in it.
    pub(super) fn result(&self, action: proto::Digest, inline: &str) -> Result<Option<proto::ActionResult>, Refused> {
        let open = self.open()?;
        let ask = proto::GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action),
            inline_output_files: vec![inline.to_owned()],
            digest_function: SHA256,
            ..proto::GetActionResultRequest::default()
        };
        let mut client = ActionCacheClient::new(open.channel.clone());
        match open.runtime.block_on(within(PATIENCE, client.get_action_result(open.request(ask)))) {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    pub(super) fn set_result(&self, action: proto::Digest, result: proto::ActionResult) -> Result<(), Refused> {
        let open = self.open()?;
        let ask = proto::UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action),
            action_result: Some(result),
            digest_function: SHA256,
            ..proto::UpdateActionResultRequest::default()
        };
        let mut client = ActionCacheClient::new(open.channel.clone());
        open.runtime.block_on(within(KEEPS_WITHIN, client.update_action_result(open.request(ask))))?;
        Ok(())
    }

    pub(super) fn missing(&self, digests: Vec<proto::Digest>) -> Result<Vec<proto::Digest>, Refused> {
        let open = self.open()?;
        let mut missing = Vec::new();
        for some in digests.chunks(DIGESTS) {
            let ask = proto::FindMissingBlobsRequest {
                instance_name: self.instance.clone(),
                blob_digests: some.to_vec(),
                digest_function: SHA256,
            };
            let mut client = ContentAddressableStorageClient::new(open.channel.clone());
            let answer = open.runtime.block_on(within(PATIENCE, client.find_missing_blobs(open.request(ask))))?;
            missing.extend(answer.into_inner().missing_blob_digests);
        }
        Ok(missing)
    }

    pub(super) fn read_small(&self, digests: Vec<proto::Digest>) -> Result<HashMap<String, Vec<u8>>, Refused> {
        let open = self.open()?;
        let ask = proto::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digests,
            digest_function: SHA256,
            ..proto::BatchReadBlobsRequest::default()
        };
        let mut client = ContentAddressableStorageClient::new(open.channel.clone());
        let answer = open.runtime.block_on(within(KEEPS_WITHIN, client.batch_read_blobs(open.request(ask))))?;
        let there = answer.into_inner().responses.into_iter();
        let there = there.filter(|one| one.status.as_ref().is_none_or(|status| status.code == 0));
        Ok(there.filter_map(|one| Some((one.digest?.hash, one.data))).collect())
    }

    pub(super) fn write_small(&self, digest: proto::Digest, data: Vec<u8>) -> Result<(), Refused> {
        let open = self.open()?;
        self.rate.spend(data.len() as u64);
        let one = proto::batch_update_blobs_request::Request {
            digest: Some(digest),
            data,
            ..proto::batch_update_blobs_request::Request::default()
        };
        let ask = proto::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests: vec![one],
            digest_function: SHA256,
        };
        let mut client = ContentAddressableStorageClient::new(open.channel.clone());
        let answer = open.runtime.block_on(within(KEEPS_WITHIN, client.batch_update_blobs(open.request(ask))))?;
        let wrong = answer.into_inner().responses.into_iter().find_map(|one| one.status.filter(|one| one.code != 0));
        match wrong {
            Some(status) => Err(Status::new(Code::from(status.code), status.message).into()),
            None => Ok(()),
        }
    }

    fn name(&self, rest: &str) -> String {
        if self.instance.is_empty() { rest.to_owned() } else { format!("{}/{rest}", self.instance) }
    }

    /// Reads a file piece by piece, no more than it should have, and no longer than `most`; whether the server has it. `take` says
    /// whether to go on.
    pub(super) fn read(
        &self,
        digest: &proto::Digest,
        most: Duration,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, Refused> {
        let open = self.open()?;
        let began = std::time::Instant::now();
        let resource_name = self.name(&format!("blobs/{}/{}", digest.hash, digest.size_bytes));
        let ask = ReadRequest { resource_name, ..ReadRequest::default() };
        let mut client = ByteStreamClient::new(open.channel.clone());
        let size = usize::try_from(digest.size_bytes).unwrap_or(0);
        let read = open.runtime.block_on(async {
            let mut stream = within(PATIENCE, client.read(open.request(ask))).await?.into_inner();
            let mut have = 0;
            while let Some(piece) = within(PATIENCE, stream.message()).await? {
                have += piece.data.len();
                if began.elapsed() > most {
                    return Err(Status::deadline_exceeded(SLOW));
                }
                if have > size || !take(&piece.data) {
                    return Ok(false);
                }
            }
            Ok(have == size)
        });
        match read {
            Err(status) if Status::code(&status) == Code::NotFound => Ok(false),
            other => other.map_err(Refused::from),
        }
    }

    pub(super) fn write(&self, digest: &proto::Digest, file: File) -> Result<(), Refused> {
        let open = self.open()?;
        let name = random_name().map_err(|error| refused(error.to_string()))?;
        let resource_name = self.name(&format!("uploads/{name}/blobs/{}/{}", digest.hash, digest.size_bytes));
        let size = u64::try_from(digest.size_bytes).unwrap_or(0);
        let file = self.rate.reading(file);
        let pieces = Pieces { file, resource_name, at: 0, size, is_done: false };
        let mut client = ByteStreamClient::new(open.channel.clone());
        let patience = KEEPS_WITHIN + Duration::from_secs(size / FLOOR);
        let ask = open.request(tokio_stream::iter(pieces));
        let answer = open.runtime.block_on(within(patience, client.write(ask)))?.into_inner();
        match answer.committed_size {
            // -1: it was there already, in other servers' way to say so.
            -1 => Ok(()),
            kept if kept == digest.size_bytes => Ok(()),
            kept => Err(refused(format!("the server kept {kept} of {size} bytes"))),
        }
    }
}

impl Open {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}

/// A file as messages; it ends early where it cannot be read, which the server sees.
struct Pieces {
    file: Slow<File>,
    resource_name: String,
    at: u64,
    size: u64,
    is_done: bool,
}

impl Iterator for Pieces {
    type Item = WriteRequest;

    fn next(&mut self) -> Option<WriteRequest> {
        if self.is_done {
            return None;
        }
        let mut data = Vec::new();
        let wanted = (self.size - self.at).min(PIECE as u64);
        let read = self.file.by_ref().take(wanted).read_to_end(&mut data).ok()?;
        let write_offset = i64::try_from(self.at).ok()?;
        self.at += read as u64;
        self.is_done = self.at >= self.size || read == 0;
        Some(WriteRequest {
            // Only the first needs it.
            resource_name: std::mem::take(&mut self.resource_name),
            write_offset,
            finish_write: self.at >= self.size,
            data,
        })
    }
}

/// A name for an upload, in the form of a random UUID.
fn random_name() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = HEXLOWER.encode(&bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// An error with what is behind it: "transport error" alone says nothing.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}
