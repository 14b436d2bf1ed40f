//! A LuaJIT with a request handle that behaves as Envoy's does, to run a script in tests.
//!
//! Lines are kept as they are given. Envoy itself joins the lines of a few well-known names (`authorization` among them)
//! when it reads the request, before any filter sees them.

use std::{cell::RefCell, rc::Rc};

use mlua::{
    AnyUserData, Error, Function, IntoLuaMulti as _, Lua, LuaString, MetaMethod, MultiValue, Result, UserData,
    UserDataMethods, Value,
};

/// Header lines, in order: name and value, any bytes.
pub type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// A script, loaded as one of Envoy's workers does.
#[derive(Debug)]
pub struct Filter {
    lua: Lua,
    on_request: Function,
    handle: AnyUserData,
    request: Rc<RefCell<Request>>,
}

/// What a script did to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The header lines afterwards.
    pub headers: Lines,
    /// Whether a modifying call was made: Envoy then clears the route cache, unless configured not to.
    pub edited: bool,
    /// Whether the script itself cleared the route cache.
    pub cleared: bool,
    /// What it logged, at any level.
    pub logs: Vec<String>,
}

impl Filter {
    /// Loads a script.
    ///
    /// # Errors
    ///
    /// When it does not load or defines no `envoy_on_request`.
    pub fn new(source: &str) -> Result<Self> {
        let lua = Lua::new();
        lua.load(source).set_name("=script").exec()?;
        let on_request = lua.globals().get("envoy_on_request")?;
        let request = Rc::new(RefCell::new(Request::default()));
        let headers = lua.create_userdata(HeaderMap(request.clone()))?;
        let handle = lua.create_userdata(Stream { request: request.clone(), headers })?;
        Ok(Self { lua, on_request, handle, request })
    }

    /// Runs the script on a request at a time in Unix seconds.
    ///
    /// # Errors
    ///
    /// When the script raises an error.
    pub fn decide<'a>(&self, headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, now: i64) -> Result<Answer> {
        let lines = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect();
        *self.request.borrow_mut() = Request { lines, now, ..Request::default() };
        self.on_request.call::<()>(&self.handle)?;
        let request = self.request.take();
        Ok(Answer { headers: request.lines, edited: request.edited, cleared: request.cleared, logs: request.logs })
    }

    /// Runs the script again on the request that it left behind, without anything done around it.
    ///
    /// # Errors
    ///
    /// When the script raises an error.
    pub fn call(&self) -> Result<()> {
        self.on_request.call(&self.handle)
    }

    /// The machine, to measure it.
    #[must_use]
    pub fn lua(&self) -> &Lua {
        &self.lua
    }
}

#[derive(Debug, Default)]
struct Request {
    lines: Lines,
    now: i64,
    iterating: bool,
    edited: bool,
    cleared: bool,
    logs: Vec<String>,
}

impl Request {
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

/// What `handle:headers()` gives.
struct HeaderMap(Rc<RefCell<Request>>);

impl UserData for HeaderMap {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // Envoy returns no value at all, not nil, where there is none: `tostring(headers:get("absent"))` is an error.
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
        // A walk that is not brought to its end locks the headers for the rest of the request, as in Envoy.
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

/// What `envoy_on_request` is called with.
struct Stream {
    request: Rc<RefCell<Request>>,
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
