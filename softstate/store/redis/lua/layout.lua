-- The layout of a store, and the checks before anything is read or changed.
--
-- Every function of this library takes one key, the namespace NS, and touches nothing but keys in its hash slot:
--
--   {NS}:meta           hash: layout, image, epoch, head, floor, lineage, start (the newest lineage row)
--   {NS}:debris         set: images that are not the store's, yet or any more
--   {NS}:IMAGE:value    hash: topic -> value as in softstate.store.remote.encoding, of topics that are alive
--   {NS}:IMAGE:live:P   sorted set: topics alive under the prefix P, by version; under "/" it has all
--   {NS}:IMAGE:dead:P   sorted set: topics deleted under P, by version
--   {NS}:IMAGE:lineage  sorted set: nonce by the revision that it begins at
--   {NS}:IMAGE:key      hash: topic NUL idempotency key -> digest
--   {NS}:IMAGE:keylog   sorted set: the same names by the version that they stand for
--
-- The sets by prefix are what bounds every answer: a page is a range of a few sorted sets, however much there is
-- beside it. An image is all of a store but its meta, so that another can be built aside and put in its place at once.

local LAYOUT = '1'

-- Arguments of one command: even, and below what Lua can unpack.
local ARGUMENTS_MAX = 2000

-- Revisions are whole numbers below 2^53, exact in Lua. Never let Lua print one: it would write 1e+15.
local function decimal(number)
  return string.format('%.0f', number)
end

local function call_many(command, key, arguments)
  for first = 1, #arguments, ARGUMENTS_MAX do
    redis.call(command, key, unpack(arguments, first, math.min(first + ARGUMENTS_MAX - 1, #arguments)))
  end
end

-- The same for commands that answer each argument: all answers in one list, false where there is none.
local function ask_many(command, key, arguments)
  local answers = {}
  for first = 1, #arguments, ARGUMENTS_MAX do
    local last = math.min(first + ARGUMENTS_MAX - 1, #arguments)
    for _, answer in ipairs(redis.call(command, key, unpack(arguments, first, last))) do
      answers[#answers + 1] = answer
    end
  end
  return answers
end

local function image_at(namespace, image)
  return '{' .. namespace .. '}:' .. image .. ':'
end

-- The store of a namespace, as it is now. Returns nil and an error, of which Python knows the first word, if there is
-- none that may be used.
local function load_store(namespace)
  -- Asked each time: a replica answers with what was true once, and its clients would think it new.
  if not redis.call('INFO', 'replication'):find('role:master', 1, true) then
    return nil, 'REPLICA this server is a replica'
  end
  local meta = '{' .. namespace .. '}:meta'
  local found = redis.call('HMGET', meta, 'layout', 'image', 'epoch', 'head', 'floor', 'lineage', 'start')
  if not found[1] then
    if redis.call('EXISTS', meta) == 1 then
      return nil, 'FOREIGN the key ' .. meta .. ' is not of softstate'
    end
    return nil, 'NOSTORE there is no store in namespace ' .. namespace
  end
  if found[1] ~= LAYOUT then
    return nil, 'NEWLAYOUT the store has layout ' .. found[1] .. ', this library knows ' .. LAYOUT
  end
  return {
    namespace = namespace, meta = meta, debris = '{' .. namespace .. '}:debris',
    channel = '{' .. namespace .. '}:wake', at = image_at(namespace, found[2]), image = found[2], epoch = found[3],
    head = tonumber(found[4]), floor = tonumber(found[5]), lineage = found[6], start = tonumber(found[7]),
  }
end

local function position_of(store)
  return store.epoch .. '.' .. store.lineage .. '.' .. decimal(store.head)
end

-- The lineage in force at a revision, false above the head and before the first row.
local function lineage_at(store, revision)
  if revision > store.head then
    return false
  elseif revision >= store.start then
    return store.lineage
  end
  local key = store.at .. 'lineage'
  return redis.call('ZREVRANGEBYSCORE', key, decimal(revision), '-inf', 'LIMIT', 0, 1)[1] or false
end

local function revision_of(position)
  return tonumber(position:match('%d+$'))
end

local function on_history(store, position)
  local epoch, lineage, revision = position:match('^(.*)%.(.*)%.(%d+)$')
  return epoch == store.epoch and lineage == lineage_at(store, tonumber(revision))
end

-- The beginning of every answer. `seen` is the highest position that the asker has met.
local function state_of(store, seen)
  return { store.epoch, store.lineage, store.head, store.floor, lineage_at(store, revision_of(seen)) }
end

local function prefixes_of(topic)
  local prefixes = { '/' }
  local slash = topic:find('/', 1, true)
  while slash do
    prefixes[#prefixes + 1] = topic:sub(1, slash)
    slash = topic:find('/', slash + 1, true)
  end
  return prefixes
end

-- Registers a function that is called with the store and the arguments.
local function serve(name, flags, body)
  redis.register_function {
    function_name = 'softstate_' .. name,
    flags = flags,
    callback = function(keys, arguments)
      if #keys ~= 1 then
        return redis.error_reply('ERR softstate_' .. name .. ' takes one key, the namespace, not ' .. #keys)
      end
      local store, trouble = load_store(keys[1])
      if not store then
        return redis.error_reply(trouble)
      end
      return body(store, arguments)
    end,
  }
end
