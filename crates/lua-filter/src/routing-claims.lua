-- routing-claims: a JWT's claims become request headers that choose which version of a service answers.
--
-- One script for Envoy's HTTP Lua filter (LuaJIT; Envoy 1.20 or later). Signatures are NOT verified here: the gateway
-- must do that. docs/behaviour.md defines the rules R1 to R19 that comments refer to. The file is ASCII without
-- backslashes, so that it survives any YAML round trip.

local byte, char, find, lower, sub = string.byte, string.char, string.find, string.lower, string.sub
local concat, sort, unpack = table.concat, table.sort, unpack
local pairs, pcall = pairs, pcall
local clock = os and os.time

-- policy begin (manifest-gen writes this part; docs/policy.md explains the fields)
local policy = {
  from_headers = {
    {name = "authorization", prefix = "Bearer "},
  },
  from_cookies = {},
  from_baggage = {},
  carry_baggage = nil,
  carry_header = nil,
  carried_names = {},
  format = "jwt",
  claim_path = {},
  services = {
    ["microservice-a"] = "microservice-a",
    ["microservice-b"] = "microservice-b",
  },
  header_prefix = nil,
  report_header = nil,
  clock_skew_seconds = 60,
  max_token_bytes = 8192,
  max_payload_bytes = 6144,
  max_routes = 32,
  max_depth = 16,
}
-- policy end

-- Limits of the decision cache (R16), which has two generations of this size.
local CACHE_ENTRIES = 128
local CACHE_BYTES = 128 * 1024
-- With more managed headers than this, one walk over the request is faster than asking for each. For requests of 14 and
-- of 29 lines, both cost the same at about 30 names. At 100 names, the walk saves 5 of 13 microseconds.
local ASK_AT_MOST = 32
-- The number of keys of the routes object that are read (R13).
local CLAIMS = 128
-- The length of a report in bytes before it is cut off (R18).
local REPORT_BYTES = 4092
-- Seconds beyond any clock, at which `exp` and `nbf` saturate. Doubles are exact far beyond it.
local FAR = 1e15

local services, header_prefix, report_header = policy.services, policy.header_prefix, policy.report_header
local claim_path, max_depth = policy.claim_path, policy.max_depth
local carry_baggage, carry_header = policy.carry_baggage, policy.carry_header

local SPACE, TAB = 32, 9

-- The first and last position of `text` from `first` to `last`, without the spaces and tabs around it.
local function trim(text, first, last)
  while first <= last do
    local b = byte(text, first)
    if b ~= SPACE and b ~= TAB then break end
    first = first + 1
  end
  while first <= last do
    local b = byte(text, last)
    if b ~= SPACE and b ~= TAB then break end
    last = last - 1
  end
  return first, last
end

------------------------------------------------------------------------------------------------------------------------
-- Strip (R1)

local managed, managed_names = {}, {}

local function manage(name)
  managed[name] = true
  managed_names[#managed_names + 1] = name
end

for _, header in pairs(services or {}) do manage(header) end
if report_header then manage(report_header) end
-- carry begin (parts from here to `carry end` are only in scripts whose policy has `fromBaggage` or `carry`)

-- Whether the carrier is a source (R19).
local carrier_is_source = false
for _, source in pairs(policy.from_headers) do
  if source.name == carry_header then carrier_is_source = true end
end
for _, key in pairs(policy.from_baggage) do
  if key == carry_baggage then carrier_is_source = true end
end

if carry_header and not carrier_is_source then manage(carry_header) end
-- carry end

-- Asks first, because `remove` clears Envoy's route cache even if there is nothing to remove (R15).
local function strip_by_asking(headers)
  local stripped = false
  for i = 1, #managed_names do
    local name = managed_names[i]
    if headers:get(name) then
      headers:remove(name)
      stripped = true
    end
  end
  return stripped
end

local present = {}

-- Collects first, because headers cannot be removed during a walk, or ever again if the walk does not finish.
local function strip_by_walking(headers)
  local count = 0
  for name in pairs(headers) do
    if managed[name] or header_prefix and find(name, header_prefix, 1, true) == 1 then
      count = count + 1
      present[count] = name
    end
  end
  for i = 1, count do headers:remove(present[i]) end
  return count > 0
end

-- If this function were compiled, each step of the walk would leave and enter machine code, which takes several times
-- as long.
if jit then jit.off(strip_by_walking) end

-- Removes the managed headers that the client sent. Returns whether there were any.
local strip = (header_prefix or #managed_names > ASK_AT_MOST) and strip_by_walking or strip_by_asking

-- carry begin
------------------------------------------------------------------------------------------------------------------------
-- Baggage (R3, R19)

-- The lengths in bytes of what is carried, and of `baggage` with it.
local CARRIED_BYTES, BAGGAGE_BYTES = 4096, 8192

-- Calls `visit` with each member of a line, its key or nil, and the first and last position of its value.
local function each_member(line, visit)
  local at, equals, semicolon = 1, 0, 0
  while at <= #line do
    local stop = find(line, ",", at, true) or #line + 1
    -- Searches for the next `=` and `;` only once. Otherwise a line of commas would take quadratic time.
    if equals < at then equals = find(line, "=", at, true) or #line + 1 end
    if semicolon < at then semicolon = find(line, ";", at, true) or #line + 1 end
    local first, last = trim(line, at, stop - 1)
    if first <= last then
      local properties = semicolon < stop and semicolon or stop
      local key = equals < properties and sub(line, trim(line, at, equals - 1)) or nil
      visit(sub(line, first, last), key, equals + 1, properties - 1)
    end
    at = stop + 1
  end
end

-- `baggage` as the client sent it, the members besides the carrier as one line, whether some of them were left out, and
-- whether the carrier is there.
local sent, others, others_full, has_carrier

local function read_others(line)
  local parts, length = {}, 0
  sent, others_full, has_carrier = line, false, false
  each_member(line, function(member, key)
    if key == carry_baggage then
      has_carrier = true
    else
      length = length + #member + (length > 0 and 1 or 0)
      if length > BAGGAGE_BYTES then others_full = true end
      if not others_full then parts[#parts + 1] = member end
    end
  end)
  others = concat(parts, ",")
end

-- Sets a header, or removes it if the value is empty.
local function put(headers, name, value)
  if value == "" then headers:remove(name) else headers:replace(name, value) end
end

local strip_headers = strip

-- Also removes what the client sent in the carrier, if it is a member of `baggage` and not a source.
local function strip_with_baggage(headers)
  local stripped = strip_headers(headers)
  read_others(headers:get("baggage") or "")
  if carrier_is_source or not has_carrier then return stripped end
  put(headers, "baggage", others)
  return true
end

if carry_baggage then strip = strip_with_baggage end

local baggage_ranks = {}
for rank = 1, #policy.from_baggage do baggage_ranks[policy.from_baggage[rank]] = rank end

-- Reads `baggage` as the client sent it. Also returns the key.
local function token_of_baggage(headers)
  local found, fault, found_key
  local best = #policy.from_baggage + 1
  local line = carry_baggage and sent or headers:get("baggage") or ""
  each_member(line, function(_, key, first, last)
    local rank = key and baggage_ranks[key]
    if rank == best then
      found, fault = nil, "ambiguous-token"
    elseif rank and rank < best then
      best, found, fault, found_key = rank, sub(line, trim(line, first, last)), nil, key
    end
  end)
  return found, fault, found_key
end
-- carry end

------------------------------------------------------------------------------------------------------------------------
-- Sources (R3): the one token of a request. Each function returns the token, or nil, or nil and an outcome.

local function starts_with(text, first, last, prefix)
  if last - first + 1 < #prefix then return false end
  local start = sub(text, first, first + #prefix - 1)
  return start == prefix or lower(start) == lower(prefix)
end

-- A line is split at its commas, and `get` joins lines with commas.
local function token_of_header(headers, source)
  local value, prefix = headers:get(source.name), source.prefix
  if not value then return nil end
  local found
  local at = 1
  repeat
    local stop = find(value, ",", at, true) or #value + 1
    local first, last = trim(value, at, stop - 1)
    if starts_with(value, first, last, prefix) then
      if found then return nil, "ambiguous-token" end
      found = sub(value, trim(value, first + #prefix, last))
    end
    at = stop + 1
  until at > #value + 1
  return found
end

local cookie_ranks = {}
for rank = 1, #policy.from_cookies do cookie_ranks[policy.from_cookies[rank]] = rank end

-- Finds the first cookie of the policy that is present, in one pass for all cookies.
local function token_of_cookies(headers)
  local found, fault
  local best = #policy.from_cookies + 1
  for i = 0, headers:getNumValues("cookie") - 1 do
    local line = headers:getAtIndex("cookie", i) or ""
    local at, equals = 1, 0
    while at <= #line do
      local stop = find(line, ";", at, true) or #line + 1
      -- Searches for the next `=` only once. Otherwise a line of semicolons would take quadratic time.
      if equals < at then equals = find(line, "=", at, true) or #line + 1 end
      if equals < stop then
        local rank = cookie_ranks[sub(line, trim(line, at, equals - 1))]
        if rank == best then
          found, fault = nil, "ambiguous-token"
        elseif rank and rank < best then
          best, found, fault = rank, sub(line, trim(line, equals + 1, stop - 1)), nil
        end
      end
      at = stop + 1
    end
  end
  return found, fault
end

-- Also returns whether the token tells its format itself (R5), and whether it comes from the carrier (R19).
local function find_token(headers)
  for i = 1, #policy.from_headers do
    local source = policy.from_headers[i]
    local token, fault = token_of_header(headers, source)
    local from_carrier = source.name == carry_header
    if token or fault then return token, fault, from_carrier, from_carrier end
  end
  if #policy.from_cookies > 0 then
    local token, fault = token_of_cookies(headers)
    if token or fault then return token, fault, false, false end
  end
  -- carry begin
  if #policy.from_baggage > 0 then
    local token, fault, key = token_of_baggage(headers)
    if token or fault then return token, fault, true, key == carry_baggage end
  end
  -- carry end
  return nil, "no-token", false, false
end

------------------------------------------------------------------------------------------------------------------------
-- Token to payload (R4, R5)

-- The payload as numbers, reused for every token. A 0 after the last byte ends whatever is being read, so nothing below
-- reads further.
local bytes = {}

-- The six bits of each base64url character (RFC 4648 section 5).
local sextet = {}
for i = 0, 25 do
  sextet[byte("A") + i] = i
  sextet[byte("a") + i] = i + 26
end
for i = 0, 9 do sextet[byte("0") + i] = i + 52 end
sextet[byte("-")], sextet[byte("_")] = 62, 63

-- Decodes token[first..last] into `bytes`. Returns the length, or nil and an outcome.
local function decode(token, first, last)
  local stop = last
  while stop >= first and last - stop < 2 and byte(token, stop) == 61 do stop = stop - 1 end
  local chars = stop - first + 1
  local length = (chars * 3 - chars * 3 % 4) / 4
  if length > policy.max_payload_bytes then return nil, "token-too-large" end
  local rest = chars % 4
  if rest == 1 or stop < last and (last - first + 1) % 4 ~= 0 then return nil, "malformed-token" end
  local n = 0
  for i = first, stop - rest, 4 do
    local a, b, c, d = byte(token, i, i + 3)
    a, b, c, d = sextet[a], sextet[b], sextet[c], sextet[d]
    if not (a and b and c and d) then return nil, "malformed-token" end
    bytes[n + 1] = a * 4 + (b - b % 16) / 16
    bytes[n + 2] = b % 16 * 16 + (c - c % 4) / 4
    bytes[n + 3] = c % 4 * 64 + d
    n = n + 3
  end
  if rest > 0 then
    local a, b, c = byte(token, stop - rest + 1, stop)
    a, b, c = sextet[a], sextet[b], rest == 2 and 0 or sextet[c]
    if not (a and b and c) then return nil, "malformed-token" end
    if rest == 2 and b % 16 ~= 0 or c % 4 ~= 0 then return nil, "malformed-token" end
    bytes[n + 1] = a * 4 + (b - b % 16) / 16
    -- With two characters, this writes to the position of the closing 0.
    bytes[n + 2] = b % 16 * 16 + (c - c % 4) / 4
  end
  bytes[length + 1] = 0
  return length
end

local function payload_of(token, tells_format)
  local has_dots = policy.format == "jwt"
  -- carry begin
  if tells_format then
    if find(token, "%", 1, true) then return nil, "malformed-token" end
    has_dots = find(token, ".", 1, true)
  end
  -- carry end
  if not has_dots then return decode(token, 1, #token) end
  local dot = find(token, ".", 1, true)
  local second = dot and find(token, ".", dot + 1, true)
  if not second or find(token, ".", second + 1, true) or dot == 1 or second == dot + 1 then
    return nil, "malformed-token"
  end
  return decode(token, dot + 1, second - 1)
end

-- RFC 3629 section 4.
local function is_utf8(length)
  local at = 1
  while at <= length do
    local b = bytes[at]
    if b < 128 then
      at = at + 1
    elseif b < 194 or b > 244 then
      return false
    else
      local low = b == 224 and 160 or b == 240 and 144 or 128
      local high = b == 237 and 159 or b == 244 and 143 or 191
      local more = b < 224 and 1 or b < 240 and 2 or 3
      for i = at + 1, at + more do
        b = bytes[i]
        if b < low or b > high then return false end
        low, high = 128, 191
      end
      at = at + more + 1
    end
  end
  return true
end

------------------------------------------------------------------------------------------------------------------------
-- JSON (R6 to R8, RFC 8259): one pass over `bytes`. Each reader takes the position at which its value starts. It
-- returns the position after the value, or nil and a fault. nil alone means "malformed-payload".

local QUOTE, BACKSLASH, LETTER_U = 34, 92, 117
local OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY, COMMA, COLON = 123, 125, 91, 93, 44, 58
local MINUS, PLUS, POINT, ZERO, NINE = 45, 43, 46, 48, 57

local escapes = {[34] = 34, [92] = 92, [47] = 47, [98] = 8, [102] = 12, [110] = 10, [114] = 13, [116] = 9}

local hex_digits = {}
for i = 0, 9 do hex_digits[ZERO + i] = i end
for i = 0, 5 do hex_digits[byte("A") + i], hex_digits[byte("a") + i] = 10 + i, 10 + i end

local function is_exponent(b) return b == 101 or b == 69 end

-- The bytes from `first` to `last` as a string. Built in parts, because the arguments of a call are limited.
local function text(first, last)
  if last - first < 4000 then return char(unpack(bytes, first, last)) end
  return text(first, first + 3999) .. text(first + 4000, last)
end

local function skip_space(at)
  local b = bytes[at]
  while b == SPACE or b == 10 or b == 13 or b == TAB do
    at = at + 1
    b = bytes[at]
  end
  return at
end

local function read_hex(at)
  local code = 0
  for i = at, at + 3 do
    local digit = hex_digits[bytes[i]]
    if not digit then return nil end
    code = code * 16 + digit
  end
  return code
end

-- Writes the bytes of the escape at `from` after `last`. Returns the position after the escape, and the new last.
local function unescape(from, last)
  local b = bytes[from + 1]
  if escapes[b] then
    bytes[last + 1] = escapes[b]
    return from + 2, last + 1
  end
  local code = b == LETTER_U and read_hex(from + 2)
  if not code then return nil end
  from = from + 6
  if code >= 55296 and code <= 57343 then
    local low = code < 56320 and bytes[from] == BACKSLASH and bytes[from + 1] == LETTER_U and read_hex(from + 2)
    if not low or low < 56320 or low > 57343 then return nil end
    code = 65536 + (code - 55296) * 1024 + (low - 56320)
    from = from + 6
  end
  if code < 128 then
    bytes[last + 1] = code
    return from, last + 1
  end
  -- UTF-8: six bits per byte, from the last byte to the first.
  local more = code < 2048 and 1 or code < 65536 and 2 or 3
  for i = last + 1 + more, last + 2, -1 do
    bytes[i] = 128 + code % 64
    code = (code - code % 64) / 64
  end
  bytes[last + 1] = (more == 1 and 192 or more == 2 and 224 or 240) + code
  return from, last + 1 + more
end

-- Also returns the last position of the string's text, which starts after the quote. Escapes are replaced in place,
-- because none is shorter than its replacement.
local function read_string(at)
  local last = at
  at = at + 1
  while true do
    local b = bytes[at]
    if b == QUOTE then
      return at + 1, last
    elseif b == BACKSLASH then
      at, last = unescape(at, last)
      if not at then return nil end
    elseif b < 32 then
      return nil
    else
      at = at + 1
      last = last + 1
      bytes[last] = b
    end
  end
end

local function skip_digits(at)
  local b = bytes[at]
  while b >= ZERO and b <= NINE do
    at = at + 1
    b = bytes[at]
  end
  return at
end

-- Also returns whether the number has no sign, fraction or exponent.
local function read_number(at)
  local plain = bytes[at] ~= MINUS
  if not plain then at = at + 1 end
  local after = bytes[at] == ZERO and at + 1 or skip_digits(at)
  if after == at then return nil end
  at = after
  if bytes[at] == POINT then
    plain = false
    after = skip_digits(at + 1)
    if after == at + 1 then return nil end
    at = after
  end
  if is_exponent(bytes[at]) then
    plain = false
    at = at + 1
    if bytes[at] == MINUS or bytes[at] == PLUS then at = at + 1 end
    after = skip_digits(at)
    if after == at then return nil end
    at = after
  end
  return at, plain
end

local words = {}
for _, word in pairs({"true", "false", "null"}) do words[byte(word)] = {byte(word, 1, #word)} end

local function read_word(at)
  local word = words[bytes[at]]
  if not word then return nil end
  for i = 1, #word do
    if bytes[at + i - 1] ~= word[i] then return nil end
  end
  return at + #word
end

local read_array, read_object

-- Reads a value that the policy ignores. `depth` is the depth of the object or array around it.
local function read_value(at, depth)
  local b = bytes[at]
  if b == QUOTE then
    return (read_string(at))
  elseif b == OPEN_OBJECT then
    return read_object(at, depth + 1)
  elseif b == OPEN_ARRAY then
    return read_array(at, depth + 1)
  elseif b == MINUS or b >= ZERO and b <= NINE then
    return (read_number(at))
  end
  return read_word(at)
end

function read_array(at, depth)
  if depth > max_depth then return nil, "too-deep" end
  at = skip_space(at + 1)
  if bytes[at] == CLOSE_ARRAY then return at + 1 end
  while true do
    local fault
    at, fault = read_value(at, depth)
    if not at then return nil, fault end
    at = skip_space(at)
    local b = bytes[at]
    if b == CLOSE_ARRAY then return at + 1 end
    if b ~= COMMA then return nil end
    at = skip_space(at + 1)
  end
end

-- The reader for the member `key` of the object at `level`, or nil if the policy ignores the member.
local reader_of

-- `level` is the number of claim path segments that lead to this object, or nil if the policy ignores the object.
function read_object(at, depth, level)
  if depth > max_depth then return nil, "too-deep" end
  at = skip_space(at + 1)
  if bytes[at] == CLOSE_OBJECT then return at + 1 end
  local seen = level and {}
  while true do
    if bytes[at] ~= QUOTE then return nil end
    local first = at + 1
    local last, key, read, fault
    at, last = read_string(at)
    if not at then return nil end
    if level then
      key = text(first, last)
      read = reader_of(key, level)
      if read then
        if seen[key] then return nil, "duplicate-key" end
        seen[key] = true
      end
    end
    at = skip_space(at)
    if bytes[at] ~= COLON then return nil end
    at, fault = (read or read_value)(skip_space(at + 1), depth, key, level)
    if not at then return nil, fault end
    at = skip_space(at)
    local b = bytes[at]
    if b == CLOSE_OBJECT then return at + 1 end
    if b ~= COMMA then return nil end
    at = skip_space(at + 1)
  end
end

------------------------------------------------------------------------------------------------------------------------
-- What the policy reads (R9 to R12)

-- The state of the payload being read: `exp` and `nbf`, the claims as a list and by header, whether a key was not a
-- valid name, the number of keys read from the routes object, and whether there are more.
local times, claims, claim_of, has_invalid_name, keys, has_more_keys

-- The number from `first` up to `after`, rounded down, as an exact double that saturates at FAR.
local function cut(first, after)
  local negative = bytes[first] == MINUS
  if negative then first = first + 1 end
  local point = skip_digits(first)
  local mantissa = bytes[point] == POINT and skip_digits(point + 1) or point
  -- The number of digits before the decimal point after the exponent, which can be infinite, has moved it.
  local whole = point - first
  if mantissa < after then
    local at, exponent = mantissa + 1, 0
    local sign = bytes[at]
    if sign == MINUS or sign == PLUS then at = at + 1 end
    for i = at, after - 1 do exponent = exponent * 10 + bytes[i] - ZERO end
    whole = sign == MINUS and whole - exponent or whole + exponent
  end
  local value, has_fraction = 0, false
  for i = first, mantissa - 1 do
    if i ~= point then
      local digit = bytes[i] - ZERO
      if whole > 0 then
        value = value * 10 + digit
      elseif digit > 0 then
        has_fraction = true
      end
      whole = whole - 1
    end
  end
  while whole > 0 and value > 0 and value < FAR do
    value = value * 10
    whole = whole - 1
  end
  if value > FAR then value = FAR end
  if not negative then return value end
  return has_fraction and -value - 1 or -value
end

-- Reads `exp` or `nbf`.
local function read_time(at, _, key)
  local after = read_number(at)
  if not after then return nil end
  times[key] = cut(at, after)
  return after
end

-- Reads a segment of the claim path.
local function read_step(at, depth, _, level)
  if bytes[at] ~= OPEN_OBJECT then return nil end
  return read_object(at, depth + 1, level + 1)
end

local function header_of(key)
  if services then return services[lower(key)] end
  return #key <= 63 and find(key, "^[A-Za-z0-9._-]+$") and header_prefix .. lower(key)
end

-- Returns the position after the value, and the version if the value is one (R12).
local function read_version(at, depth)
  local b = bytes[at]
  if b == QUOTE then
    local after, last = read_string(at)
    if not last or last - at > 63 then return after end
    local version = text(at + 1, last)
    local valid = find(version, "^[A-Za-z0-9][A-Za-z0-9._-]*$") and find(version, "[A-Za-z0-9]$")
    return after, valid and version or nil
  elseif b >= ZERO and b <= NINE then
    local after, plain = read_number(at)
    return after, plain and after - at <= 63 and text(at, after - 1) or nil
  end
  local after, fault = read_value(at, depth)
  return after, nil, fault
end

-- Reads a claim of the routes object.
local function read_claim(at, depth, key)
  local header = header_of(key)
  if not header then
    has_invalid_name = true
    return read_value(at, depth)
  end
  local after, version, fault = read_version(at, depth)
  if not after then return nil, fault end
  local claim = claim_of[header]
  if claim then
    claim.version, claim.fault = nil, "conflicting-name"
  else
    claim = {header = header, version = version, fault = "invalid-value"}
    claim_of[header] = claim
    claims[#claims + 1] = claim
  end
  return after
end

function reader_of(key, level)
  if level == 0 and (key == "exp" or key == "nbf") then return read_time end
  if level < #claim_path then return key == claim_path[level + 1] and read_step end
  if has_more_keys or services and not services[lower(key)] then return nil end
  has_more_keys = keys == CLAIMS
  if has_more_keys then return nil end
  keys = keys + 1
  return read_claim
end

-- carry begin
------------------------------------------------------------------------------------------------------------------------
-- The choice that travels to the next hop (R19)

local base64url = {}
for b, value in pairs(sextet) do base64url[value] = char(b) end

-- Base64url without padding.
local function encode(text)
  local parts = {}
  for i = 1, #text, 3 do
    local a, b, c = byte(text, i, i + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    local low, second = bits % 64, bits % 4096
    local third = bits % 262144
    parts[#parts + 1] = base64url[(bits - third) / 262144]
    parts[#parts + 1] = base64url[(third - second) / 4096]
    if b then parts[#parts + 1] = base64url[(second - low) / 64] end
    if c then parts[#parts + 1] = base64url[low] end
  end
  return concat(parts)
end

local escaped = {['"'] = char(BACKSLASH) .. '"', [char(BACKSLASH)] = char(BACKSLASH, BACKSLASH)}
for i = 0, 31 do escaped[char(i)] = char(BACKSLASH) .. string.format("u%04x", i) end

local function json_string(text)
  return '"' .. string.gsub(text, '[%c"' .. char(BACKSLASH) .. "]", escaped) .. '"'
end

local opening, closing = "", "}"
for i = 1, #claim_path do
  opening, closing = opening .. json_string(claim_path[i]) .. ":{", closing .. "}"
end

local carried_keys = {}
for header, name in pairs(policy.carried_names) do carried_keys[header] = json_string(name) end

-- What the carrier is set to, from the sorted claims, or nil if it is too large.
local function choice_of(exp)
  local members = {}
  for i = 1, #claims do
    local claim = claims[i]
    if claim.version then
      local key = carried_keys[claim.header] or json_string(sub(claim.header, #header_prefix + 1))
      members[#members + 1] = key .. ':"' .. claim.version .. '"'
    end
  end
  local start = "{"
  if exp then
    if exp < -FAR then exp = -FAR end
    start = string.format('{"exp":%d,', exp)
  end
  local json = start .. opening .. concat(members, ",") .. closing
  if #json > policy.max_payload_bytes then return nil end
  local value = encode(json)
  if #value > policy.max_token_bytes then return nil end
  if carry_baggage then value = carry_baggage .. "=" .. value end
  return #value <= CARRIED_BYTES and value or nil
end

-- Changes the carrier. Returns whether it did, and whether the choice did not fit.
local function carry(headers, decision, from_carrier)
  local choice, applies = decision.choice, decision.applies or false
  if from_carrier or carrier_is_source and not applies then return false, false end
  if carry_header then
    if not choice and not headers:get(carry_header) then return false, applies end
    put(headers, carry_header, choice or "")
    return true, not choice
  end
  if choice then
    local line = others == "" and choice or others .. "," .. choice
    if not others_full and #line <= BAGGAGE_BYTES then
      put(headers, "baggage", line)
      return true, false
    end
  end
  if has_carrier then put(headers, "baggage", others) end
  return has_carrier, applies
end
-- carry end

------------------------------------------------------------------------------------------------------------------------
-- Decisions (R13, R14, R18): the headers to set, in order of name, with the report last

local function new_decision()
  return {count = 0, names = {}, values = {}, bytes = 0, expires = nil, starts = nil}
end

local function set(decision, name, value)
  local count = decision.count + 1
  decision.count, decision.names[count], decision.values[count] = count, name, value
  decision.bytes = decision.bytes + #name + #value
end

-- A decision that consists of an outcome alone.
local plain_decisions = {}

local function plain_decision(outcome)
  local decision = plain_decisions[outcome]
  if not decision then
    decision = new_decision()
    if report_header then set(decision, report_header, outcome) end
    plain_decisions[outcome] = decision
  end
  return decision
end

local function by_header(a, b) return a.header < b.header end

local function report_of(outcome, carry_fault)
  local parts, length = {outcome}, #outcome
  local function add(word)
    length = length + 1 + #word
    parts[#parts + 1] = length <= REPORT_BYTES and word or "..."
    return length <= REPORT_BYTES
  end
  if carry_fault then add("!carry-too-large") end
  if has_invalid_name then add("!invalid-name") end
  for i = 1, #claims do
    local claim = claims[i]
    if not add(claim.header .. (claim.version and "=" .. claim.version or "!" .. claim.fault)) then break end
  end
  return concat(parts, " ")
end

local function decide_claims()
  local decision, valid = new_decision(), 0
  sort(claims, by_header)
  for i = 1, #claims do
    if claims[i].version then valid = valid + 1 end
  end
  if has_more_keys or valid > policy.max_routes then
    if report_header then set(decision, report_header, "too-many-routes") end
    return decision
  end
  for i = 1, #claims do
    if claims[i].version then set(decision, claims[i].header, claims[i].version) end
  end
  if report_header then set(decision, report_header, report_of(valid > 0 and "applied" or "no-routes")) end
  -- carry begin
  -- Whether the outcome is `applied`, what is carried, and the report if it does not fit.
  decision.applies = valid > 0
  if valid > 0 and (carry_baggage or carry_header) then
    decision.choice, decision.report_without = choice_of(times.exp), report_of("applied", true)
    decision.bytes = decision.bytes + #(decision.choice or "") + #decision.report_without
  end
  -- carry end
  return decision
end

-- The decision of a token while it is valid, which `starts` and `expires` bound, including the skew (R9).
local function read_token(token, tells_format)
  local length, fault = payload_of(token, tells_format)
  if not length then return plain_decision(fault) end
  if not is_utf8(length) then return plain_decision("malformed-payload") end
  times, claims, claim_of, has_invalid_name, keys, has_more_keys = {}, {}, {}, false, 0, false
  local at = skip_space(1)
  if bytes[at] ~= OPEN_OBJECT then return plain_decision("malformed-payload") end
  at, fault = read_object(at, 1, 0)
  if not at then return plain_decision(fault or "malformed-payload") end
  if skip_space(at) ~= length + 1 then return plain_decision("malformed-payload") end
  local decision = decide_claims()
  decision.expires = times.exp and times.exp + policy.clock_skew_seconds
  decision.starts = times.nbf and times.nbf - policy.clock_skew_seconds
  return decision
end

------------------------------------------------------------------------------------------------------------------------
-- Cache (R16). Each worker has its own, because Envoy runs one copy of this script in each. It contains decisions as if
-- the token were valid. The time is checked for each request.

local young, old, young_entries, young_bytes = {}, {}, 0, 0

local function remember(key, decision)
  local size = #key + decision.bytes
  if young_entries == CACHE_ENTRIES or young_bytes + size > CACHE_BYTES then
    old, young, young_entries, young_bytes = young, {}, 0, 0
  end
  young[key], young_entries, young_bytes = decision, young_entries + 1, young_bytes + size
end

-- Prefers Envoy's clock, because os.time can be some milliseconds late at the start of a second.
local function now(handle)
  if not handle.timestamp then return clock() end
  local milliseconds = handle:timestamp()
  return (milliseconds - milliseconds % 1000) / 1000
end

local function decide_token(handle, token, tells_format)
  if token == "" then return plain_decision("malformed-token") end
  if #token > policy.max_token_bytes then return plain_decision("token-too-large") end
  -- No token starts with a space.
  local key = tells_format and " " .. token or token
  local decision = young[key]
  if not decision then
    decision = old[key] or read_token(token, tells_format)
    remember(key, decision)
  end
  local expires, starts = decision.expires, decision.starts
  if expires or starts then
    local time = now(handle)
    if expires and time >= expires then return plain_decision("expired") end
    if starts and time < starts then return plain_decision("not-yet-valid") end
  end
  return decision
end

-- Returns whether a header was changed.
local function apply(handle, headers)
  local token, fault, tells_format, from_carrier = find_token(headers)
  local decision = token and decide_token(handle, token, tells_format) or plain_decision(fault)
  for i = 1, decision.count do headers:replace(decision.names[i], decision.values[i]) end
  -- carry begin
  if carry_baggage or carry_header then
    local changed, too_large = carry(headers, decision, from_carrier)
    if too_large and report_header then headers:replace(report_header, decision.report_without) end
    return changed or decision.count > 0
  end
  -- carry end
  return decision.count > 0
end

-- An error here would let the request pass as it came. Strips first, and runs the rest in a pcall (R1, R2).
function envoy_on_request(handle)
  local headers = handle:headers()
  local changed = strip(headers)
  local ok, set = pcall(apply, handle, headers)
  if not ok then set = strip(headers) end
  -- Envoy does this itself for a changed header, unless the filter is configured with clear_route_cache: false (R15).
  if (changed or set) and handle.clearRouteCache then handle:clearRouteCache() end
  -- Does not log the error itself, which could contain a part of the token (R17).
  if not ok then handle:logErr("routing-claims: internal error; the request goes to the baseline") end
end
