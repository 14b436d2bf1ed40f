-- Asks the request handle everything that the filter and its tests rely on, and reports the answers in one header.

local answers = {}

-- Nothing and nil are told apart, as Envoy gives the one and not the other.
local function show(...)
  local shown = {}
  for i = 1, select("#", ...) do shown[i] = tostring((select(i, ...))) end
  return "(" .. table.concat(shown, " ") .. ")"
end

local function answer(name, ...) answers[#answers + 1] = name .. show(...) end

local ERRORS = {
  "header map cannot be modified while iterating",
  "cannot create a second iterator before completing the first",
}

local function fails(name, ...)
  local ok, fault = pcall(...)
  local known = "another error"
  for _, text in ipairs(ERRORS) do
    if not ok and string.find(tostring(fault), text, 1, true) then known = text end
  end
  answer(name, ok and "no error" or known)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  -- Envoy adds headers of its own: only those of the test count.
  local function lines()
    local found = {}
    for name, value in pairs(headers) do
      if string.find(name, "t-", 1, true) == 1 or name == "cookie" then found[#found + 1] = name .. "=" .. value end
    end
    return table.concat(found, "|")
  end
  if headers:get("t-break-off") then
    for _ in pairs(headers) do break end
    pcall(headers.replace, headers, "t-late", "1")
    return
  end

  answer("same object", handle:headers() == headers)
  for _, name in ipairs({"t-one", "T-One", "t-two", "t-empty", "t-empties", "t-absent", "t-bytes", "cookie", "", "t-one" .. string.char(0) .. "x"}) do
    answer("get " .. name, headers:get(name))
    answer("getNumValues " .. name, headers:getNumValues(name))
    for i = -1, 2 do answer("getAtIndex " .. name .. " " .. i, headers:getAtIndex(name, i)) end
  end
  answer("getAtIndex 0.9", headers:getAtIndex("t-two", 0.9))
  answer("lines", lines())

  headers:replace("T-One", "another")
  answer("replace of one", lines())
  headers:replace("t-two", "another")
  answer("replace of two", lines())
  headers:replace("t-new", "new")
  answer("replace of none", lines())
  headers:add("T-New", "newer")
  answer("add", lines(), headers:get("t-new"))
  headers:remove("T-new")
  answer("remove of two", lines(), headers:get("t-new"))
  headers:remove("t-new")
  answer("remove of none", lines())
  headers:replace("t-number", 12)
  headers:replace("t-nul", "a" .. string.char(0) .. "b")
  headers:add("t-name" .. string.char(0) .. "b", "c")
  headers:replace("t-void", "")
  answer("values", lines(), headers:get("t-void"), headers:getAtIndex("t-void", 0))
  headers:remove("t-nul" .. string.char(0) .. "b")
  answer("remove of a cut name", lines())

  -- Once a walk, as Envoy has more headers than the test sent.
  for name in pairs(headers) do
    if name == "t-one" then
      for _, call in ipairs({"remove", "replace", "add"}) do
        fails(call .. " within pairs", headers[call], headers, "t-one", "1")
      end
      fails("pairs within pairs", pairs, headers)
    end
  end
  fails("get within pairs", function() for _ in pairs(headers) do headers:get("t-one") end end)
  answer("after pairs", lines())
  headers:remove("t-one")
  answer("and edits again", lines())

  fails("get of nil", headers.get, headers, nil)
  fails("get of a table", headers.get, headers, {})
  fails("replace without value", headers.replace, headers, "t-one")
  fails("getAtIndex without index", headers.getAtIndex, headers, "t-one")
  answer("no such method", handle.noSuchMethod, headers.noSuchMethod)
  answer("methods", type(handle.clearRouteCache), type(handle.timestamp), type(handle.logErr))
  answer("timestamp", type(handle:timestamp()), handle:timestamp() % 1, handle:timestamp() > 1.6e12)
  answer("clearRouteCache", handle:clearRouteCache())
  answer("globals", type(jit), type(jit.off), type(os.time), type(unpack), type(bit))

  local report = table.concat(answers, "; ")
  headers:replace("t-report", (string.gsub(report, "[^ -~]", function(c) return "<" .. string.byte(c) .. ">" end)))
end
