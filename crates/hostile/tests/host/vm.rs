//! The module that ships in an interpreter, and a proxy's side of the ABI that fails on demand.

use std::sync::LazyLock;

use wasmi::{
    AsContextMut, Caller, Engine, Error, Extern, ExternType, Func, Instance, Linker, Memory, Module, Store, TrapCode,
    Val,
};

/// A virtual machine with the module.
pub(crate) struct Vm {
    store: Store<Host>,
    instance: Instance,
}

/// The proxy: one configuration, one request at a time.
pub(crate) struct Host {
    pub(crate) policy: String,
    /// Header lines of the request, as the filter leaves them.
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The filter's log.
    pub(crate) logs: Vec<String>,
    /// The functions that the filter called, in order.
    pub(crate) calls: Vec<String>,
    /// The fault, and the number of the call at which it occurs.
    fault: Option<(usize, Fault)>,
}

/// A fault of the host at a call.
#[derive(Clone)]
pub(crate) enum Fault {
    /// The host does nothing and returns this status.
    Refuses(u32),
    /// The host reports success but returns no memory.
    GivesNothing,
    /// The host returns these bytes instead of the requested ones.
    Gives(Vec<u8>),
    /// The host calls a function of the module before it answers; that this traps ends its own call, or does not.
    CallsBack { function: &'static str, arguments: Vec<u32>, ends_by_trap: bool },
}

/// How a call to the module ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Returns(i32),
    Traps,
}

pub(crate) use End::{Returns, Traps};

impl Vm {
    /// A VM whose host has this policy for the filter. Nothing has been called yet.
    pub(crate) fn new(policy: &str) -> Self {
        static MODULE: LazyLock<Module> = LazyLock::new(|| {
            let path = testbed::target_dir().join("dist/routing-claims.wasm");
            let bytes = std::fs::read(&path);
            let bytes =
                bytes.unwrap_or_else(|_| panic!("{} is missing; run `cargo xtask build --filters`", path.display()));
            Module::new(&Engine::default(), bytes).unwrap()
        });
        let host =
            Host { policy: policy.into(), headers: Vec::new(), logs: Vec::new(), calls: Vec::new(), fault: None };
        let mut store = Store::new(MODULE.engine(), host);
        let mut linker = Linker::new(MODULE.engine());
        for import in MODULE.imports() {
            let ExternType::Func(signature) = import.ty() else { panic!("{} is not a function", import.name()) };
            let name = import.name().to_owned();
            let answer = move |caller: Caller<'_, Host>, arguments: &[Val], results: &mut [Val]| {
                results[0] = Val::I32(answer(caller, &name, arguments)?.cast_signed());
                Ok(())
            };
            linker.func_new(import.module(), import.name(), signature.clone(), answer).unwrap();
        }
        let instance = linker.instantiate_and_start(&mut store, &MODULE).unwrap();
        Self { store, instance }
    }

    /// Calls a function of the module.
    pub(crate) fn call(&mut self, function: &str, arguments: &[u32]) -> End {
        let function = self.instance.get_func(&self.store, function).unwrap();
        match call(&mut self.store, function, arguments) {
            Ok(result) => Returns(result),
            Err(error) if error.as_trap_code() == Some(TrapCode::UnreachableCodeReached) => Traps,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    /// Makes the call with this number, counted from now, go wrong.
    pub(crate) fn fail_at(&mut self, call: usize, fault: Fault) {
        let host = self.store.data_mut();
        host.calls.clear();
        host.fault = Some((call, fault));
    }
}

impl Host {
    pub(crate) fn values(&self, header: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(name, _)| name == header.as_bytes());
        lines.map(|(_, value)| std::str::from_utf8(value).unwrap()).collect()
    }

    fn remove(&mut self, header: &[u8]) {
        self.headers.retain(|(name, _)| name != header);
    }
}

/// A header map as the host hands it over: the count of its lines, the lengths of each name and value, then each of them with
/// a NUL behind it; numbers are 32-bit little-endian.
pub(crate) fn serialize(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut map = number(headers.len()).to_vec();
    for (name, value) in headers {
        map.extend([number(name.len()), number(value.len())].concat());
    }
    for (name, value) in headers {
        map.extend([name, &[0][..], value, &[0][..]].concat());
    }
    map
}

/// Calls a function of the module. Returns 0 for a function without a result.
fn call(mut store: impl AsContextMut<Data = Host>, function: Func, arguments: &[u32]) -> Result<i32, Error> {
    let arguments: Vec<_> = arguments.iter().map(|argument| Val::I32(argument.cast_signed())).collect();
    let mut results = vec![Val::I32(0); function.ty(&store).results().len()];
    function.call(&mut store, &arguments, &mut results)?;
    Ok(results.first().and_then(Val::i32).unwrap_or_default())
}

/// Executes a call of the filter and returns the status. An error ends the call to the module.
fn answer(mut caller: Caller<'_, Host>, function: &str, arguments: &[Val]) -> Result<u32, Error> {
    let host = caller.data_mut();
    host.calls.push(function.to_owned());
    let number = host.calls.len() - 1;
    let fault = host.fault.clone().filter(|(at, _)| *at == number).map(|(_, fault)| fault);
    if let Some(Fault::Refuses(status)) = fault {
        return Ok(status);
    }
    if let Some(Fault::CallsBack { function, arguments, ends_by_trap }) = &fault {
        let callback = caller.get_export(function).and_then(Extern::into_func).unwrap();
        match call(&mut caller, callback, arguments) {
            Ok(_) => return Err(Error::new(format!("{function} returns"))),
            Err(trap) if *ends_by_trap => return Err(trap),
            Err(_) => {}
        }
    }
    let argument = |index: usize| arguments[index].i32().unwrap().cast_unsigned() as usize;
    match function {
        "proxy_log" => {
            let message = String::from_utf8(read(&caller, argument(1), argument(2))).unwrap();
            caller.data_mut().logs.push(message);
        }
        "proxy_increment_metric" | "proxy_define_metric" => {}
        "proxy_get_current_time_nanoseconds" => {
            memory(&caller).write(&mut caller, argument(0), &1_800_000_000_000_000_000_u64.to_le_bytes()).unwrap();
        }
        "proxy_get_buffer_bytes" => {
            let policy = caller.data().policy.clone().into_bytes();
            give(&mut caller, fault, policy, argument(3), argument(4))?;
        }
        "proxy_get_header_map_pairs" => {
            let map = serialize(&caller.data().headers);
            give(&mut caller, fault, map, argument(1), argument(2))?;
        }
        "proxy_remove_header_map_value" => {
            let name = read(&caller, argument(1), argument(2));
            caller.data_mut().remove(&name);
        }
        "proxy_replace_header_map_value" => {
            let name = read(&caller, argument(1), argument(2));
            let value = read(&caller, argument(3), argument(4));
            caller.data_mut().remove(&name);
            caller.data_mut().headers.push((name, value));
        }
        _ => return Err(Error::new(format!("the filter calls {function}, which it does not need"))),
    }
    Ok(0)
}

/// Writes bytes into memory that the module allocates, and their address and length to the two given addresses.
fn give(
    caller: &mut Caller<'_, Host>,
    fault: Option<Fault>,
    bytes: Vec<u8>,
    data: usize,
    size: usize,
) -> Result<(), Error> {
    let bytes = match fault {
        Some(Fault::GivesNothing) => return Ok(()),
        Some(Fault::Gives(bytes)) => bytes,
        _ => bytes,
    };
    let memory = memory(caller);
    let length = u32::try_from(bytes.len()).unwrap();
    let allocate = caller.get_export("malloc").and_then(Extern::into_func).unwrap();
    let address = call(&mut *caller, allocate, &[length])?;
    memory.write(&mut *caller, address.cast_unsigned() as usize, &bytes).unwrap();
    memory.write(&mut *caller, data, &address.to_le_bytes()).unwrap();
    memory.write(&mut *caller, size, &length.to_le_bytes()).unwrap();
    Ok(())
}

fn read(caller: &Caller<'_, Host>, address: usize, length: usize) -> Vec<u8> {
    memory(caller).data(caller)[address..address + length].to_vec()
}

fn memory(caller: &Caller<'_, Host>) -> Memory {
    caller.get_export("memory").and_then(Extern::into_memory).unwrap()
}
