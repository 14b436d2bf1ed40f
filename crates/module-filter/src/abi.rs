//! Envoy's ABI for dynamic modules: the functions of Envoy that the filter calls, and the hooks that Envoy calls.
//!
//! Declared from the documentation of `source/extensions/dynamic_modules/abi/abi.h` in Envoy's repository, ABI v0.1.0 (Envoy 1.38
//! and 1.39). ABI v0.2.0 (Envoy 1.40) has the same functions.
//!
//! The rest of the crate is safe, because this file keeps the rules of that documentation:
//!
//! - Envoy's pointers are not null and are valid for as long as each function below says.
//! - Header lines are valid until the hook returns or a header changes. [`Request::header_lines`] therefore borrows the request,
//!   and the functions that change a header borrow it mutably: the compiler rejects a use of a line after a change.
//! - Envoy calls the hooks of a configuration on several threads, and those of one request on one thread. [`Filter`] is [`Sync`].
//! - No panic leaves a hook. Those that run code of ours catch it, and `extern "C"` aborts on all others.
#![allow(unsafe_code, reason = "a C ABI; see above")]

use std::{
    ffi::{CStr, c_void},
    marker::PhantomData,
    ptr, slice,
};

use crate::{Action, Filter, on_configure, on_load, on_request};

/// A configuration that Envoy is loading.
pub(crate) struct Config(*mut c_void);

/// The request of the current hook.
pub(crate) struct Request<'h> {
    filter: *mut c_void,
    hook: PhantomData<&'h ()>,
}

/// All header lines of a request, in order.
pub(crate) struct HeaderLines<'r> {
    lines: Vec<HeaderLine>,
    request: PhantomData<&'r ()>,
}

/// A counter of one configuration.
#[derive(Clone, Copy)]
pub(crate) struct Counter(usize);

/// The severity of a line in Envoy's log.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum LogLevel {
    Error = 4,
    Critical = 5,
}

/// Writes a line to Envoy's log.
pub(crate) fn log(level: LogLevel, line: &str) {
    // SAFETY: Envoy copies the line before it returns.
    unsafe { envoy_dynamic_module_callback_log(level as u32, Buffer::of(line.as_bytes())) }
}

impl Config {
    /// The number of worker threads.
    #[expect(clippy::unused_self, reason = "only the main thread may call it, which loads configurations")]
    pub(crate) fn concurrency(&self) -> usize {
        envoy_dynamic_module_callback_get_concurrency() as usize
    }

    /// Defines a counter without labels, or returns nothing if Envoy refuses.
    pub(crate) fn define_counter(&self, name: &str) -> Option<Counter> {
        let mut counter = 0;
        // SAFETY: the configuration is valid during its hook. Envoy copies the name, and reads no labels if there are none.
        let result = unsafe {
            envoy_dynamic_module_callback_http_filter_config_define_counter(
                self.0,
                Buffer::of(name.as_bytes()),
                ptr::null_mut(),
                0,
                &raw mut counter,
            )
        };
        (result == SUCCESS).then_some(Counter(counter))
    }
}

impl Request<'_> {
    /// The index of this worker thread.
    pub(crate) fn worker(&self) -> usize {
        // SAFETY: the request is valid during its hook.
        unsafe { envoy_dynamic_module_callback_http_filter_get_worker_index(self.filter) as usize }
    }

    /// All header lines, or nothing if Envoy refuses. Every request has some (`:method`), so none at all is a refusal.
    pub(crate) fn header_lines(&self) -> Option<HeaderLines<'_>> {
        // SAFETY: the request is valid during its hook.
        let count = unsafe { envoy_dynamic_module_callback_http_get_headers_size(self.filter, REQUEST_HEADERS) };
        if count == 0 {
            return None;
        }
        let mut lines = Vec::<HeaderLine>::with_capacity(count);
        // SAFETY: there is room for as many lines as Envoy has announced, and Envoy writes all of them if it returns true.
        unsafe {
            if !envoy_dynamic_module_callback_http_get_headers(self.filter, REQUEST_HEADERS, lines.as_mut_ptr()) {
                return None;
            }
            lines.set_len(count);
        }
        Some(HeaderLines { lines, request: PhantomData })
    }

    /// Removes all lines of a header, or returns nothing if Envoy refuses.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<()> {
        // To set a header to null is to remove it.
        self.change(name, Buffer { bytes: ptr::null(), length: 0 })
    }

    /// Sets a header in place of all its lines, or returns nothing if Envoy refuses.
    pub(crate) fn set(&mut self, name: &str, value: &[u8]) -> Option<()> {
        self.change(name.as_bytes(), Buffer::of(value))
    }

    fn change(&mut self, name: &[u8], value: Buffer) -> Option<()> {
        // SAFETY: the request is valid during its hook. Envoy copies the name and the value, which are not its own memory: lines
        // of the request cannot be borrowed here.
        let changed = unsafe {
            envoy_dynamic_module_callback_http_set_header(self.filter, REQUEST_HEADERS, Buffer::of(name), value)
        };
        changed.then_some(())
    }

    /// Makes Envoy compute the route again.
    pub(crate) fn clear_route_cache(&mut self) {
        // SAFETY: the request is valid during its hook.
        unsafe { envoy_dynamic_module_callback_http_clear_route_cache(self.filter) }
    }

    /// Adds to a counter. The request is already safe, so a counter that Envoy does not find is not a reason to fail it.
    pub(crate) fn increment(&mut self, counter: Counter, by: u64) {
        // SAFETY: the request is valid during its hook. Envoy reads no labels if there are none, and checks the counter's ID.
        unsafe {
            envoy_dynamic_module_callback_http_filter_increment_counter(self.filter, counter.0, ptr::null_mut(), 0, by);
        }
    }

    /// Answers the request with this status, and with these details in the access log. The hook must then stop.
    pub(crate) fn respond(&mut self, status: u32, details: &str) {
        // SAFETY: the request is valid during its hook. Envoy copies the details, and reads no headers if there are none.
        unsafe {
            envoy_dynamic_module_callback_http_send_response(
                self.filter,
                status,
                ptr::null_mut(),
                0,
                Buffer::of(b""),
                Buffer::of(details.as_bytes()),
            );
        }
    }
}

impl HeaderLines<'_> {
    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // SAFETY: Envoy's lines are valid as long as the request is borrowed.
        self.lines
            .iter()
            .map(|line| unsafe { (bytes(line.name, line.name_length), bytes(line.value, line.value_length)) })
    }
}

/// # Safety
///
/// For as long as the result lives, `bytes` points to this many bytes, or `length` is 0.
unsafe fn bytes<'b>(bytes: *const u8, length: usize) -> &'b [u8] {
    // An empty value can be a null pointer.
    // SAFETY: as above.
    if length == 0 { &[] } else { unsafe { slice::from_raw_parts(bytes, length) } }
}

/// Bytes that Envoy reads or owns.
#[derive(Clone, Copy)]
#[repr(C)]
struct Buffer {
    bytes: *const u8,
    length: usize,
}

impl Buffer {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.as_ptr(), length: bytes.len() }
    }
}

/// A header line in Envoy's memory.
#[derive(Clone, Copy)]
#[repr(C)]
struct HeaderLine {
    name: *const u8,
    name_length: usize,
    value: *const u8,
    value_length: usize,
}

// Functions of Envoy.
unsafe extern "C" {
    fn envoy_dynamic_module_callback_log(level: u32, line: Buffer);
    safe fn envoy_dynamic_module_callback_get_concurrency() -> u32;
    fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        config: *mut c_void,
        name: Buffer,
        labels: *mut Buffer,
        label_count: usize,
        counter: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_filter_increment_counter(
        filter: *mut c_void,
        counter: usize,
        labels: *mut Buffer,
        label_count: usize,
        by: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_filter_get_worker_index(filter: *mut c_void) -> u32;
    fn envoy_dynamic_module_callback_http_get_headers_size(filter: *mut c_void, kind: u32) -> usize;
    fn envoy_dynamic_module_callback_http_get_headers(filter: *mut c_void, kind: u32, lines: *mut HeaderLine) -> bool;
    fn envoy_dynamic_module_callback_http_set_header(
        filter: *mut c_void,
        kind: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_clear_route_cache(filter: *mut c_void);
    fn envoy_dynamic_module_callback_http_send_response(
        filter: *mut c_void,
        status: u32,
        headers: *mut HeaderLine,
        header_count: usize,
        body: Buffer,
        details: Buffer,
    );
}

/// The kind of headers that the filter reads and changes.
const REQUEST_HEADERS: u32 = 0;

/// The result of a call about counters that succeeded.
const SUCCESS: u32 = 0;

/// The version of the ABI that this file keeps. Envoy warns if its own differs, and promises that its next minor version still
/// takes this one.
const ABI_VERSION: &CStr = c"v0.1.0";

/// Envoy has loaded the library. Returns the version of the ABI.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const std::ffi::c_char {
    on_load();
    ABI_VERSION.as_ptr()
}

/// Envoy loads a configuration, on its main thread. Null rejects it.
///
/// # Safety
///
/// `policy` is valid until the hook returns.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    config: *mut c_void,
    _name: Buffer,
    policy: Buffer,
) -> *const Filter {
    // SAFETY: as above.
    let policy = unsafe { bytes(policy.bytes, policy.length) };
    on_configure(&Config(config), policy).map_or(ptr::null(), |filter| Box::into_raw(Box::new(filter)))
}

/// Envoy no longer uses a configuration: all of its requests have ended.
///
/// # Safety
///
/// `filter` is from `config_new`, and this is its last use.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(filter: *mut Filter) {
    if !filter.is_null() {
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(filter) });
    }
}

/// A request begins. A request needs no memory of its own, so its filter is its configuration.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(filter: *const Filter, _envoy: *mut c_void) -> *const Filter {
    filter
}

/// The headers of a request have arrived.
///
/// # Safety
///
/// `request` is valid until the hook returns. `filter` is from `config_new`: each request of Envoy holds a reference to its
/// configuration, so Envoy destroys it later.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    request: *mut c_void,
    filter: *const Filter,
    _end_of_stream: bool,
) -> u32 {
    // SAFETY: as above.
    let filter = unsafe { &*filter };
    match on_request(filter, &mut Request { filter: request, hook: PhantomData }) {
        Action::Continue => CONTINUE,
        Action::Stop => STOP_ITERATION,
    }
}

/// Defines hooks that change nothing. Envoy loads no module that lacks one of them.
macro_rules! pass {
    ($($hook:ident($($parameter:ty),*) $(-> $status:ty)?;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $hook($(_: $parameter),*) $(-> $status)? { $(CONTINUE as $status)? }
        )*
    };
}

pass! {
    envoy_dynamic_module_on_http_filter_destroy(*const Filter);
    envoy_dynamic_module_on_http_filter_request_body(*mut c_void, *const Filter, bool) -> u32;
    envoy_dynamic_module_on_http_filter_request_trailers(*mut c_void, *const Filter) -> u32;
    envoy_dynamic_module_on_http_filter_response_headers(*mut c_void, *const Filter, bool) -> u32;
    envoy_dynamic_module_on_http_filter_response_body(*mut c_void, *const Filter, bool) -> u32;
    envoy_dynamic_module_on_http_filter_response_trailers(*mut c_void, *const Filter) -> u32;
    envoy_dynamic_module_on_http_filter_stream_complete(*mut c_void, *const Filter);
    envoy_dynamic_module_on_http_filter_http_callout_done(
        *mut c_void, *const Filter, u64, u32, *mut HeaderLine, usize, *mut Buffer, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_headers(
        *mut c_void, *const Filter, u64, *mut HeaderLine, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_data(
        *mut c_void, *const Filter, u64, *const Buffer, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_trailers(
        *mut c_void, *const Filter, u64, *mut HeaderLine, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_complete(*mut c_void, *const Filter, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(*mut c_void, *const Filter, u64, u32);
    envoy_dynamic_module_on_http_filter_scheduled(*mut c_void, *const Filter, u64);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(*mut c_void, *const Filter);
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(*mut c_void, *const Filter);
}

/// The status with which every kind of hook passes on what it got.
const CONTINUE: u32 = 0;

/// The status of the hook for headers after which no further filter runs.
const STOP_ITERATION: u32 = 1;

/// Threads share a filter through pointers that the compiler cannot check.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Filter>();
};
