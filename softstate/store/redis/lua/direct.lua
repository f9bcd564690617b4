-- The functions that other programs call: FCALL softstate_publish 1 NAMESPACE TOPIC JSON [EXPECT], softstate_delete without the JSON.

local TOPIC_BYTES_MAX = 255
local VALUE_BYTES_MAX = 65536
local VALUE_DEPTH_MAX = 32
local VALUE_ITEMS_MAX = 4096

-- Well-formed sequences of UTF-8 (RFC 3629). None can be found inside another.
local SEQUENCES = {
  '[\194-\223][\128-\191]',
  '\224[\160-\191][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]', '\237[\128-\159][\128-\191]',
  '\240[\144-\191][\128-\191][\128-\191]', '[\241-\243][\128-\191][\128-\191][\128-\191]',
  '\244[\128-\143][\128-\191][\128-\191]',
}

local function is_utf8(text)
  for _, sequence in ipairs(SEQUENCES) do
    if not text:find('[\128-\255]') then
      return true
    end
    text = text:gsub(sequence, '.')
  end
  return not text:find('[\128-\255]')
end

-- The fault of a topic, nil if there is none: the rule of softstate.names.check_topic.
local function topic_fault(topic)
  if #topic < 1 or #topic > TOPIC_BYTES_MAX then
    return 'topic must be 1 to ' .. TOPIC_BYTES_MAX .. ' bytes of UTF-8, this one has ' .. #topic
  elseif not is_utf8(topic) then
    return 'topic must be UTF-8'
  elseif topic:find('[%z\1-\31\127]') or topic:find('\194[\128-\159]') then
    return 'topic must not hold control characters'
  end
  for segment in (topic .. '/'):gmatch('(.-)/') do
    if segment == '' or segment == '.' or segment == '..' then
      return "topic must not begin or end with '/', nor hold an empty, '.' or '..' segment"
    end
  end
end

-- The fault of a number or literal. cjson would take more: nan, 0x10, 007, and integers of any size.
local function token_fault(token)
  if token == 'true' or token == 'false' or token == 'null' then
    return nil
  end
  local digits = token:match('^%-?(%d+)')
  if not digits or digits:find('^0%d') then
    return 'value is not JSON: ' .. token
  elseif token:find('^%-?%d+$') then
    local greatest = token:find('^%-') and '9223372036854775808' or '9223372036854775807'
    if #digits > #greatest or (#digits == #greatest and digits > greatest) then
      return 'value must hold integers of 64 bits, signed'
    end
  elseif not (token:find('^%-?%d+%.%d+$') or token:find('^%-?%d+%.?%d*[eE][%+%-]?%d+$')) or token:find('%.[eE]') then
    return 'value is not JSON: ' .. token
  elseif tonumber(token) == math.huge or tonumber(token) == -math.huge then
    return 'value must be finite'
  end
end

-- The fault of the text itself, which cjson does not check closely.
local function text_fault(json)
  if not is_utf8(json) then
    return 'value must be UTF-8'
  end
  local plain = json:gsub('\\.', '')
  for quoted in plain:gmatch('"([^"]*)"') do
    if quoted:find('[%z\1-\31]') then
      return 'value is not JSON: control characters in text must be escaped'
    end
  end
  plain = plain:gsub('"[^"]*"', ' ')
  for token in plain:gmatch('[^ \t\r\n%[%]{}:,]+') do
    local fault = token_fault(token)
    if fault then
      return fault
    end
  end
end

local function is_bytes(value)
  return type(value) == 'string' and #value % 4 == 0 and value:find('^[A-Za-z0-9+/]*=?=?$')
end

-- Adds to `total` the bytes that a decoded value takes as CBOR at most, and its items: members of its lists and maps, at
-- any depth. Returns what is wrong with it, nil for nothing.
local function measure(value, depth, total)
  local kind = type(value)
  if kind == 'string' then
    total.bytes = total.bytes + 5 + #value
    return nil
  elseif kind ~= 'table' then
    total.bytes = total.bytes + 9
    return nil
  elseif next(value) == '$bytes' and next(value, '$bytes') == nil then
    if not is_bytes(value['$bytes']) then
      return 'value: {"$bytes": ...} must hold standard base64 text'
    end
    total.bytes = total.bytes + 5 + #value['$bytes']
    return nil
  elseif depth >= VALUE_DEPTH_MAX then
    return 'value is nested deeper than ' .. VALUE_DEPTH_MAX .. ' levels'
  end
  total.bytes = total.bytes + 5
  for key, item in pairs(value) do
    total.items = total.items + 1
    total.bytes = total.bytes + (type(key) == 'string' and 5 + #key or 0)
    local fault = measure(item, depth + 1, total)
    if fault then
      return fault
    end
  end
end

local function value_fault(json)
  local fault = text_fault(json)
  if fault then
    return fault
  end
  local fine, value = pcall(cjson.decode, json)
  if not fine then
    return 'value is not JSON'
  end
  local total = { bytes = 0, items = 0 }
  fault = measure(value, 0, total)
  if fault then
    return fault
  elseif total.items > VALUE_ITEMS_MAX then
    return 'value holds ' .. total.items .. ' items (members of lists and maps), the limit is ' .. VALUE_ITEMS_MAX
      .. ': send numbers as one text or bytes, or publish the parts as topics of their own'
  elseif total.bytes > VALUE_BYTES_MAX then
    return 'value takes about ' .. total.bytes .. ' bytes encoded as CBOR, the limit is ' .. VALUE_BYTES_MAX
  end
end

-- Returns the version, or an error INVALID or CONFLICT, with which nothing was changed. Deleting what has no value changes
-- nothing, and returns the version of the tombstone, 0 if none is kept.
local function change(store, topic, json, expect)
  local fault = topic_fault(topic) or (json and value_fault(json))
  if not fault and expect and not expect:find('^%d+$') then
    fault = 'expect must be a version, or 0 for a topic that must not exist'
  end
  if fault then
    return redis.error_reply('INVALID ' .. fault)
  end
  local changes = { { topic = topic, value = json, expect = tonumber(expect or ''), witnessed = true } }
  local _, verdicts = apply(store, changes, 0, 0)
  if type(verdicts[1]) == 'table' then
    if not json and (not changes[1].expect or changes[1].expect == 0) and verdicts[1][2] == 0 then
      return verdicts[1][1]
    end
    return redis.error_reply('CONFLICT topic is at version ' .. decimal(verdicts[1][1]))
  end
  return verdicts[1]
end

serve('softstate_publish', {}, function(store, arguments)
  if #arguments < 2 or #arguments > 3 then
    return redis.error_reply('ERR softstate_publish takes a topic, JSON text, and perhaps the version to expect')
  end
  return change(store, arguments[1], arguments[2], arguments[3])
end)

serve('softstate_delete', {}, function(store, arguments)
  if #arguments < 1 or #arguments > 2 then
    return redis.error_reply('ERR softstate_delete takes a topic, and perhaps the version to expect')
  end
  return change(store, arguments[1], nil, arguments[2])
end)
