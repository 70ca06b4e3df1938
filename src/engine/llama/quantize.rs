//! Quantizing model files with llama.cpp's own quantizer.
//!
//! Unlike the rest of the engine this needs no context and no device: a file goes in, a file comes out.
//! llama.cpp catches its own C++ exceptions here and returns a status, but it says *why* only in its log,
//! so the log is captured while it runs.

use std::ffi::{CStr, CString, NulError, c_char, c_void};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Mutex, Once, PoisonError};

use llama_cpp_sys_2 as sys;

use crate::model::gguf::{Arrays, GgufError, Header};
use crate::model::{QuantType, Quantizer};

/// Why a model was not quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The input is missing, cut off or not GGUF.
    #[error("cannot quantize {}: {cause}", path.display())]
    Input {
        /// The input file.
        path: PathBuf,
        /// What is wrong with it.
        cause: GgufError,
    },
    /// The output cannot be created.
    #[error("cannot write {}: {cause}", path.display())]
    Output {
        /// The output file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// Input and output are one file; llama.cpp reads while it writes.
    #[error("input and output are the same file: {}", .0.display())]
    SameFile(PathBuf),
    /// llama.cpp takes paths as C strings.
    #[error("a path contains a zero byte: {0}")]
    ZeroByte(#[from] NulError),
    /// llama.cpp refused.
    #[error("llama.cpp could not quantize to {to}: {log}")]
    Refused {
        /// The type asked for.
        to: QuantType,
        /// The last warnings and errors of its log.
        log: String,
    },
}

/// Quantizes `input` to `output`, also from a type that is quantized already.
///
/// Token embeddings go to `Q8_0` with every type of less than that: they are a third of a small model's
/// weights and its output layer too, and four bits there cost more quality than they save bytes.
///
/// Uses all cores; memory stays near the size of the largest tensor. A half-written output is removed.
pub fn quantize(input: &Path, output: &Path, to: QuantType) -> Result<(), QuantizeError> {
    check_paths(input, output)?;
    let source = path_string(input)?;
    let target = path_string(output)?;
    let status = with_captured_log(|| {
        static BACKEND: Once = Once::new();
        // SAFETY: takes no arguments and touches only ggml's own registry. It may run again after
        // `LlamaBackend::init`: it then finds the backends registered and returns.
        BACKEND.call_once(|| unsafe { sys::llama_backend_init() });
        let params = params(to);
        // SAFETY: both strings are zero-terminated and outlive the call, as does `params`, whose optional
        // pointers are the null defaults. C++ exceptions are caught inside.
        unsafe { sys::llama_model_quantize(source.as_ptr(), target.as_ptr(), &raw const params) }
    });
    match status {
        (0, _) => Ok(()),
        (_, log) => {
            // A leftover is no model; if it cannot be removed, the error below matters more.
            let _ = std::fs::remove_file(output);
            Err(QuantizeError::Refused { to, log })
        }
    }
}

fn check_paths(input: &Path, output: &Path) -> Result<(), QuantizeError> {
    Header::open(input, Arrays::Skip)
        .map_err(|cause| QuantizeError::Input { path: input.to_owned(), cause })?;
    if let (Ok(from), Ok(to)) = (input.canonicalize(), output.canonicalize())
        && from == to
    {
        return Err(QuantizeError::SameFile(from));
    }
    // llama.cpp's failure to open the output is a C++ exception with a poor message: try first.
    File::create(output).map_err(|cause| QuantizeError::Output { path: output.to_owned(), cause })?;
    Ok(())
}

fn path_string(path: &Path) -> Result<CString, NulError> {
    CString::new(path.as_os_str().as_encoded_bytes())
}

fn params(to: QuantType) -> sys::llama_model_quantize_params {
    // SAFETY: takes no arguments, returns a plain struct.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.allow_requantize = true;
    let (file_type, embeddings) = match to {
        QuantType::Q8_0 => (sys::LLAMA_FTYPE_MOSTLY_Q8_0, Some(sys::GGML_TYPE_Q8_0)),
        QuantType::Q4_0 => (sys::LLAMA_FTYPE_MOSTLY_Q4_0, Some(sys::GGML_TYPE_Q8_0)),
        QuantType::Q4KM => (sys::LLAMA_FTYPE_MOSTLY_Q4_K_M, Some(sys::GGML_TYPE_Q8_0)),
        QuantType::F16 => (sys::LLAMA_FTYPE_MOSTLY_F16, None),
    };
    params.ftype = file_type;
    if let Some(kind) = embeddings {
        params.token_embedding_type = kind;
        params.output_tensor_type = kind;
    }
    params
}

/// Lines of the log worth showing when it fails.
const KEPT_LINES: usize = 8;

/// Runs `work` with llama.cpp's log going into a buffer, and returns what it said in warnings and errors.
///
/// The log callback is one per process. A mutex keeps two quantizations apart; the callback that was set
/// before, the worker's bridge to `tracing`, is put back afterwards.
fn with_captured_log<T>(work: impl FnOnce() -> T) -> (T, String) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // The lock guards no data, so a panic elsewhere leaves nothing broken.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = Mutex::new(Vec::<String>::new());
    let mut before: sys::ggml_log_callback = None;
    let mut before_data = ptr::null_mut();
    // SAFETY: `lines` lives until after the callback is replaced below, and nothing in between unwinds
    // past this frame: `work` only calls into C. The out pointers are valid locals.
    let result = unsafe {
        sys::llama_log_get(&raw mut before, &raw mut before_data);
        sys::llama_log_set(Some(keep_line), (&raw const lines).cast_mut().cast());
        let result = work();
        sys::llama_log_set(before, before_data);
        result
    };
    let lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    let kept = &lines[lines.len().saturating_sub(KEPT_LINES)..];
    let log = if kept.is_empty() { "it gave no reason".to_owned() } else { kept.join("; ") };
    (result, log)
}

/// # Safety
///
/// `data` points at a `Mutex<Vec<String>>` and `text` at a zero-terminated string, both for the call.
unsafe extern "C" fn keep_line(level: sys::ggml_log_level, text: *const c_char, data: *mut c_void) {
    if level < sys::GGML_LOG_LEVEL_WARN || level == sys::GGML_LOG_LEVEL_CONT || text.is_null() {
        return;
    }
    // SAFETY: `with_captured_log` registered this function with exactly such a pointer.
    let lines = unsafe { &*data.cast::<Mutex<Vec<String>>>() };
    // SAFETY: ggml passes zero-terminated text.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    lines.push(text.trim().to_owned());
}

/// [`quantize`] for the model store.
#[derive(Clone, Copy, Debug, Default)]
pub struct LlamaQuantizer;

impl Quantizer for LlamaQuantizer {
    fn quantize(&self, input: &Path, output: &Path, to: QuantType) -> Result<(), String> {
        quantize(input, output, to).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::convert::{ModelCard, minilm, testing};
    use crate::model::gguf::TensorType;

    fn tiny_model(dir: &Path) -> PathBuf {
        let path = dir.join("tiny.gguf");
        let parts = minilm::Parts::from_zip(&testing::minilm_payload()).unwrap();
        let card = ModelCard { title: "tiny", licence: "MIT" };
        minilm::convert(&parts, &card, File::create(&path).unwrap()).unwrap();
        path
    }

    #[test]
    fn a_model_is_quantized_and_quantized_again() {
        let dir = tempfile::tempdir().unwrap();
        let (eight, four) = (dir.path().join("q8.gguf"), dir.path().join("q4.gguf"));
        quantize(&tiny_model(dir.path()), &eight, QuantType::Q8_0).unwrap();
        quantize(&eight, &four, QuantType::Q4_0).unwrap();
        let kinds = |path: &Path| {
            let header = Header::open(path, Arrays::Skip).unwrap();
            ["blk.0.attn_q.weight", "token_embd.weight", "blk.0.attn_q.bias"]
                .map(|name| header.tensor(name).unwrap().kind)
        };
        assert_eq!(kinds(&eight), [TensorType::Q8_0, TensorType::Q8_0, TensorType::F32]);
        assert_eq!(kinds(&four), [TensorType::Q4_0, TensorType::Q8_0, TensorType::F32]);
    }

    #[test]
    fn a_missing_or_damaged_input_is_an_error_before_llama_cpp_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out.gguf");
        let missing = quantize(&dir.path().join("no.gguf"), &output, QuantType::Q8_0).unwrap_err();
        assert!(matches!(missing, QuantizeError::Input { cause: GgufError::Io(_), .. }));
        let input = tiny_model(dir.path());
        let bytes = std::fs::read(&input).unwrap();
        std::fs::write(&input, &bytes[..bytes.len() / 2]).unwrap();
        let damaged = quantize(&input, &output, QuantType::Q8_0).unwrap_err();
        assert!(matches!(damaged, QuantizeError::Input { cause: GgufError::Truncated { .. }, .. }));
        assert!(!output.exists());
    }

    #[test]
    fn a_file_is_not_quantized_onto_itself() {
        let dir = tempfile::tempdir().unwrap();
        let input = tiny_model(dir.path());
        let error = quantize(&input, &input, QuantType::Q8_0).unwrap_err();
        assert!(matches!(error, QuantizeError::SameFile(_)));
        assert!(Header::open(&input, Arrays::Skip).is_ok());
    }

    #[test]
    fn an_output_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("no").join("out.gguf");
        let error = quantize(&tiny_model(dir.path()), &output, QuantType::Q8_0).unwrap_err();
        assert!(matches!(error, QuantizeError::Output { .. }));
    }

    #[test]
    fn a_refusal_quotes_llama_cpp_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("odd.gguf"), dir.path().join("out.gguf"));
        let mut file = crate::model::gguf::GgufBuilder::new();
        file.set("general.architecture", "no-such-architecture");
        file.write_to(File::create(&input).unwrap()).unwrap();
        let error = quantize(&input, &output, QuantType::Q8_0).unwrap_err();
        assert!(error.to_string().contains("no-such-architecture"), "{error}");
        assert!(!output.exists());
    }
}
