//! LuaJIT with a request handle that behaves as Envoy's does.
//!
//! Header lines stay as they are given. Envoy itself joins the lines of a few well-known names (`authorization` among
//! them) when it reads a request, before any filter sees them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use mlua::{
    AnyUserData, Error, Function, HookTriggers, IntoLuaMulti as _, Lua, LuaString, MetaMethod, MultiValue, Result,
    UserData, UserDataMethods, Value, VmState,
};

/// Header lines, in order: name and value, any bytes.
pub type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// The lines as [`Script::run`] and the core take them.
pub fn borrowed(lines: &Lines) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
}

/// A script in a virtual machine of its own, as each of Envoy's workers has one.
#[derive(Debug)]
pub struct Script {
    lua: Lua,
    on_request: Function,
    handle: AnyUserData,
    request: Rc<RefCell<State>>,
}

/// A request after a script ran on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processed {
    /// The header lines that are left.
    pub headers: Lines,
    /// Whether a modifying call was made: Envoy then clears the route cache, unless configured not to.
    pub edited: bool,
    /// Whether the script itself cleared the route cache.
    pub cleared: bool,
    /// What the script logged, at any level.
    pub logs: Vec<String>,
}

impl Script {
    /// Loads a script.
    ///
    /// # Errors
    ///
    /// When the script does not load or does not define `envoy_on_request`.
    pub fn new(source: &str) -> Result<Self> {
        let lua = Lua::new();
        lua.load(source).set_name("=script").exec()?;
        let on_request = lua.globals().get("envoy_on_request")?;
        let request = Rc::new(RefCell::new(State::default()));
        let headers = lua.create_userdata(HeaderMap(request.clone()))?;
        let handle = lua.create_userdata(Stream { request: request.clone(), headers })?;
        Ok(Self { lua, on_request, handle, request })
    }

    /// Runs the script on a request at a time in Unix seconds.
    ///
    /// # Errors
    ///
    /// When the script raises an error.
    pub fn run<'a>(&self, headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, now: i64) -> Result<Processed> {
        let lines = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect();
        *self.request.borrow_mut() = State { lines, now, ..State::default() };
        self.on_request.call::<()>(&self.handle)?;
        let State { lines, edited, cleared, logs, .. } = self.request.take();
        Ok(Processed { headers: lines, edited, cleared, logs })
    }

    /// Counts the instructions of the virtual machine that a run takes without the JIT compiler: the same on every
    /// computer. Turns the compiler off for good.
    ///
    /// # Errors
    ///
    /// When the script raises an error.
    pub fn count_instructions<'a>(
        &self,
        headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        now: i64,
    ) -> Result<u64> {
        self.lua.load("jit.off() jit.flush()").exec()?;
        let count = Rc::new(Cell::new(0));
        let counter = count.clone();
        self.lua.set_hook(HookTriggers::new().every_nth_instruction(1), move |_, _| {
            counter.set(counter.get() + 1);
            Ok(VmState::Continue)
        })?;
        let run = self.run(headers, now);
        self.lua.remove_hook();
        run.map(|_| count.get())
    }

    /// The virtual machine.
    #[must_use]
    pub fn lua(&self) -> &Lua {
        &self.lua
    }
}

/// The request that the handle stands for.
#[derive(Debug, Default)]
struct State {
    lines: Lines,
    now: i64,
    iterating: bool,
    edited: bool,
    cleared: bool,
    logs: Vec<String>,
}

impl State {
    fn values<'r>(&'r self, name: &LuaString) -> impl Iterator<Item = &'r [u8]> {
        let name = name.as_bytes().to_ascii_lowercase();
        self.lines.iter().filter(move |(key, _)| *key == name).map(|(_, value)| &**value)
    }

    /// Starts a modification.
    fn edit(&mut self) -> Result<()> {
        if self.iterating {
            return Err(Error::runtime("header map cannot be modified while iterating"));
        }
        self.edited = true;
        Ok(())
    }

    fn remove(&mut self, name: &[u8]) {
        self.lines.retain(|(key, _)| key != name);
    }
}

/// What `handle:headers()` returns.
struct HeaderMap(Rc<RefCell<State>>);

impl UserData for HeaderMap {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // For an absent header Envoy returns no value at all, not nil: `tostring(headers:get("absent"))` is an error.
        methods.add_method("get", |lua, Self(request), name: LuaString| {
            let request = request.borrow();
            let mut values = request.values(&name);
            let Some(first) = values.next() else { return Ok(MultiValue::new()) };
            let joined = values.fold(first.to_vec(), |mut joined, value| {
                joined.push(b',');
                joined.extend_from_slice(value);
                joined
            });
            lua.create_string(joined)?.into_lua_multi(lua)
        });
        methods.add_method("getAtIndex", |lua, Self(request), (name, index): (LuaString, i32)| {
            let request = request.borrow();
            match usize::try_from(index).ok().and_then(|index| request.values(&name).nth(index)) {
                Some(value) => lua.create_string(value)?.into_lua_multi(lua),
                None => Ok(MultiValue::new()),
            }
        });
        methods
            .add_method("getNumValues", |_, Self(request), name: LuaString| Ok(request.borrow().values(&name).count()));
        methods.add_method("add", |_, Self(request), (name, value): (LuaString, LuaString)| {
            let mut request = request.borrow_mut();
            request.edit()?;
            request.lines.push((c_string(&name).to_ascii_lowercase(), c_string(&value)));
            Ok(())
        });
        methods.add_method("remove", |_, Self(request), name: LuaString| {
            let mut request = request.borrow_mut();
            request.edit()?;
            request.remove(&c_string(&name).to_ascii_lowercase());
            Ok(())
        });
        methods.add_method("replace", |_, Self(request), (name, value): (LuaString, LuaString)| {
            let mut request = request.borrow_mut();
            request.edit()?;
            let name = c_string(&name).to_ascii_lowercase();
            request.remove(&name);
            request.lines.push((name, c_string(&value)));
            Ok(())
        });
        // As in Envoy, a walk that stops early locks the headers for the rest of the request.
        methods.add_meta_method(MetaMethod::Pairs, |lua, Self(request), ()| {
            if std::mem::replace(&mut request.borrow_mut().iterating, true) {
                return Err(Error::runtime("cannot create a second iterator before completing the first"));
            }
            let request = request.clone();
            let mut next = 0;
            lua.create_function_mut(move |lua, _: MultiValue| {
                let mut request = request.borrow_mut();
                let Some((name, value)) = request.lines.get(next) else {
                    request.iterating = false;
                    return Ok((Value::Nil, Value::Nil));
                };
                next += 1;
                Ok((Value::String(lua.create_string(name)?), Value::String(lua.create_string(value)?)))
            })
        });
    }
}

/// Envoy takes these arguments as C strings.
fn c_string(text: &LuaString) -> Vec<u8> {
    text.as_bytes().iter().copied().take_while(|byte| *byte != 0).collect()
}

/// The argument of `envoy_on_request`.
struct Stream {
    request: Rc<RefCell<State>>,
    headers: AnyUserData,
}

impl UserData for Stream {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("headers", |_, stream, ()| Ok(stream.headers.clone()));
        methods.add_method("timestamp", |_, stream, ()| Ok(stream.request.borrow().now * 1000));
        methods.add_method("clearRouteCache", |_, stream, ()| {
            stream.request.borrow_mut().cleared = true;
            Ok(())
        });
        for level in ["logTrace", "logDebug", "logInfo", "logWarn", "logErr", "logCritical"] {
            methods.add_method(level, |_, stream, message: LuaString| {
                stream.request.borrow_mut().logs.push(message.to_string_lossy());
                Ok(())
            });
        }
    }
}
