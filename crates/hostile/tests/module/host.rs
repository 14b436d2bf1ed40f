//! A host for the native module, in this process: it calls the module's hooks and keeps what they do.
#![allow(
    unsafe_code,
    reason = "a C ABI; declared a second time, so that the module's declarations are not tested with themselves"
)]

use std::{
    cell::RefCell,
    ffi::{CStr, c_char, c_void},
    ptr, slice,
};

// Links the module.
use module_filter as _;

/// Names and values.
pub(crate) type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// A configuration that the module has accepted. Dropping it destroys it.
#[derive(Debug)]
pub(crate) struct Configuration {
    filter: *mut c_void,
    counters: Vec<String>,
}

/// What the hooks of one request did.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) lines: Headers,
    /// The names of the calls, in order.
    pub(crate) calls: Vec<&'static str>,
    /// Counters and how much was added to each.
    pub(crate) counted: Vec<(String, u64)>,
    /// The status of the answer, if the module gave one.
    pub(crate) answer: Option<u32>,
    pub(crate) worker: u32,
    fault: Option<(usize, Fault)>,
    counters: Vec<String>,
    /// The lines that the module got. They are valid until a header changes, and are overwritten then.
    handed: Headers,
    filter: *mut c_void,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Refuses,
    /// The host passes another request to the same configuration, by the same worker.
    CallsBack,
}

/// What the module returned for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Continue,
    Stop,
}

/// Loads the module, and returns the version of the ABI that it names. Takes back its panic hook, which would hide why a test
/// fails: the module and the tests are one program here.
pub(crate) fn load() -> String {
    let hook = std::panic::take_hook();
    // SAFETY: the module returns a text that ends with NUL.
    let version = unsafe { CStr::from_ptr(envoy_dynamic_module_on_program_init()) };
    std::panic::set_hook(hook);
    version.to_str().unwrap().to_owned()
}

impl Configuration {
    /// Nothing if the module rejects the policy. `defines` is the number of counters that the host defines before it refuses.
    pub(crate) fn new(policy: &[u8], defines: usize) -> Option<Self> {
        let mut counters = (Vec::new(), defines);
        let name = Buffer::of(b"routing-claims");
        // SAFETY: the arguments are valid until the hook returns.
        let filter = unsafe {
            envoy_dynamic_module_on_http_filter_config_new((&raw mut counters).cast(), name, Buffer::of(policy))
        };
        (!filter.is_null()).then(|| Self { filter, counters: counters.0 })
    }

    /// Passes a request to the module. The `fault` happens at the call of this number.
    pub(crate) fn request(&self, lines: &Headers, worker: u32, fault: Option<(usize, Fault)>) -> (Request, Status) {
        let mut request = Request { lines: lines.clone(), worker, fault, ..Request::default() };
        request.counters.clone_from(&self.counters);
        request.filter = self.filter;
        let status = request.run();
        (request, status)
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // SAFETY: all of its requests have ended.
        unsafe { envoy_dynamic_module_on_http_filter_config_destroy(self.filter) }
    }
}

// SAFETY: Envoy shares a configuration between threads in the same way.
unsafe impl Sync for Configuration {}

impl Request {
    pub(crate) fn values(&self, header: &str) -> Vec<&[u8]> {
        let of_header = self.lines.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header.as_bytes()));
        of_header.map(|(_, value)| value.as_slice()).collect()
    }

    fn run(&mut self) -> Status {
        let (filter, this) = (self.filter, (&raw mut *self).cast());
        // SAFETY: the request is valid, and only the functions below use it until the hooks return.
        let status = unsafe {
            let filter = envoy_dynamic_module_on_http_filter_new(filter, this);
            assert!(!filter.is_null());
            let status = envoy_dynamic_module_on_http_filter_request_headers(this, filter, true);
            envoy_dynamic_module_on_http_filter_destroy(filter);
            status
        };
        match status {
            0 => Status::Continue,
            1 => Status::Stop,
            _ => panic!("status {status}"),
        }
    }

    /// Notes a call. Returns false if the host refuses it.
    fn calls(&mut self, name: &'static str) -> bool {
        let number = self.calls.len();
        self.calls.push(name);
        match self.fault {
            Some((at, Fault::Refuses)) if at == number => false,
            Some((at, Fault::CallsBack)) if at == number => {
                let mut inner = Self { lines: self.lines.clone(), worker: self.worker, ..Self::default() };
                (inner.counters, inner.filter) = (self.counters.clone(), self.filter);
                assert_eq!(inner.run(), Status::Stop, "a request during a call");
                assert_eq!(inner.answer, Some(500));
                true
            }
            _ => true,
        }
    }
}

thread_local! {
    /// What the module logged on this thread.
    static LOG: RefCell<Vec<String>> = RefCell::default();
}

/// Takes what the module logged on this thread.
pub(crate) fn take_log() -> Vec<String> {
    LOG.take()
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Buffer {
    bytes: *const u8,
    length: usize,
}

#[repr(C)]
struct HeaderLine {
    name: Buffer,
    value: Buffer,
}

impl Buffer {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.as_ptr(), length: bytes.len() }
    }

    /// A copy, or nothing if it is null.
    fn get(self) -> Option<Vec<u8>> {
        // SAFETY: the module passes valid buffers.
        (!self.bytes.is_null()).then(|| unsafe { slice::from_raw_parts(self.bytes, self.length) }.to_vec())
    }

    fn text(self) -> String {
        String::from_utf8(self.get().unwrap()).unwrap()
    }
}

// Hooks of the module.
unsafe extern "C" {
    fn envoy_dynamic_module_on_program_init() -> *const c_char;
    fn envoy_dynamic_module_on_http_filter_config_new(config: *mut c_void, name: Buffer, policy: Buffer)
    -> *mut c_void;
    fn envoy_dynamic_module_on_http_filter_config_destroy(filter: *mut c_void);
    fn envoy_dynamic_module_on_http_filter_new(filter: *mut c_void, request: *mut c_void) -> *mut c_void;
    fn envoy_dynamic_module_on_http_filter_request_headers(request: *mut c_void, filter: *mut c_void, end: bool)
    -> u32;
    fn envoy_dynamic_module_on_http_filter_destroy(filter: *mut c_void);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_log(_level: u32, line: Buffer) {
    LOG.with_borrow_mut(|log| log.push(line.text()));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_get_concurrency() -> u32 {
    WORKERS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_config_define_counter(
    counters: *mut (Vec<String>, usize),
    name: Buffer,
    _labels: *mut Buffer,
    _label_count: usize,
    counter: *mut usize,
) -> u32 {
    // SAFETY: the module passes what `Configuration::new` gave it, and a place for the number.
    let ((names, defines), counter) = unsafe { (&mut *counters, &mut *counter) };
    if names.len() == *defines {
        return 3;
    }
    names.push(name.text());
    *counter = names.len() - 1;
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_increment_counter(
    request: *mut Request,
    counter: usize,
    _labels: *mut Buffer,
    _label_count: usize,
    by: u64,
) -> u32 {
    // SAFETY: the module passes the request of its hook.
    let request = unsafe { &mut *request };
    if !request.calls("increment") {
        return 1;
    }
    request.counted.push((request.counters[counter].clone(), by));
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_callback_http_filter_get_worker_index(request: *mut Request) -> u32 {
    // SAFETY: the module passes the request of its hook.
    let request = unsafe { &mut *request };
    if request.calls("worker") { request.worker } else { WORKERS }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_callback_http_get_headers_size(request: *mut Request, _kind: u32) -> usize {
    // SAFETY: the module passes the request of its hook.
    let request = unsafe { &mut *request };
    if request.calls("size") { request.lines.len() } else { 0 }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_callback_http_get_headers(
    request: *mut Request,
    _kind: u32,
    lines: *mut HeaderLine,
) -> bool {
    // SAFETY: the module passes the request of its hook.
    let request = unsafe { &mut *request };
    if !request.calls("headers") {
        return false;
    }
    request.handed.clone_from(&request.lines);
    for (index, (name, value)) in request.handed.iter().enumerate() {
        // Envoy gives an empty value as a null pointer.
        let value = if value.is_empty() { Buffer { bytes: ptr::null(), length: 0 } } else { Buffer::of(value) };
        // SAFETY: the module passes room for as many lines as it was told.
        unsafe { lines.add(index).write(HeaderLine { name: Buffer::of(name), value }) };
    }
    true
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_callback_http_set_header(
    request: *mut Request,
    _kind: u32,
    name: Buffer,
    value: Buffer,
) -> bool {
    // SAFETY: the module passes the request of its hook.
    let request = unsafe { &mut *request };
    if !request.calls(if value.bytes.is_null() { "remove" } else { "set" }) {
        return false;
    }
    for (name, value) in &mut request.handed {
        name.fill(b'?');
        value.fill(b'?');
    }
    // Freed, so that an address sanitizer finds a use.
    request.handed.clear();
    let name = name.get().unwrap();
    request.lines.retain(|(line, _)| !line.eq_ignore_ascii_case(&name));
    request.lines.extend(value.get().map(|value| (name, value)));
    true
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_callback_http_clear_route_cache(request: *mut Request) {
    // SAFETY: the module passes the request of its hook.
    unsafe { &mut *request }.calls("clear");
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_callback_http_send_response(
    request: *mut Request,
    status: u32,
    _headers: *mut HeaderLine,
    _header_count: usize,
    _body: Buffer,
    details: Buffer,
) {
    // SAFETY: the module passes the request of its hook.
    let request = unsafe { &mut *request };
    assert_eq!(details.text(), "routing_claims_trap");
    request.answer = Some(status);
}

/// The number of workers of this host.
pub(crate) const WORKERS: u32 = 2;
