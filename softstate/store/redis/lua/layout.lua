-- The layout of a store, and the checks before anything is read or changed.
--
-- Every function of this library takes one key, the namespace NS, and touches nothing but keys in its hash slot:
--
--   {NS}:meta           hash: layout, image, epoch, head, floor, lineage, start (the newest lineage row), sum
--   {NS}:debris         set: images that are being built, or whose building was cut off
--   {NS}:swept          set: images that can never be put in place (again), whose keys are being deleted
--   {NS}:IMAGE:record   hash: topic -> sum, and value as in softstate.store.remote.encoding (none for a tombstone)
--   {NS}:IMAGE:live:P   sorted set: topics alive under the prefix P, by version; under "/" it has all
--   {NS}:IMAGE:dead:P   sorted set: topics deleted under P, by version
--   {NS}:IMAGE:lineage  sorted set: sum and nonce by the revision that it begins at
--   {NS}:IMAGE:key      hash: topic NUL idempotency key -> sum and digest
--   {NS}:IMAGE:keylog   sorted set: the same names by the version that they stand for
--   {NS}:IMAGE:publisher     hash: id -> sum and MessagePack of { settled, touched, { number, version, changed, digest } ... }
--   {NS}:IMAGE:publisherlog  sorted set: the same ids by the revision at which they were touched
--
-- A sum is SUM_DIGITS of the SHA-1 over all that belongs together, so that damage is found: of a topic as in
-- softstate.store.rules.checksum, of anything else over its parts. Layout 1 had `value` for `record`, and no sums.
--
-- The sets by prefix are what bounds every answer: a page is a range of a few sorted sets, however much there is
-- beside it. An image is all of a store but its meta, so that another can be built aside and put in its place at once.

local LAYOUT = '2'

local SUM_DIGITS = 16

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

-- The sum of a topic's record; `stored` is the empty string for a tombstone.
local function record_sum(topic, version, stored)
  local value = stored == '' and '\0' or '\1' .. stored
  return redis.sha1hex(struct.pack('>I4', #topic) .. topic .. struct.pack('>I8', version) .. value):sub(1, SUM_DIGITS)
end

local function sum_of(...)
  local fed = {}
  for _, part in ipairs { ... } do
    fed[#fed + 1] = struct.pack('>I4', #part)
    fed[#fed + 1] = part
  end
  return redis.sha1hex(table.concat(fed)):sub(1, SUM_DIGITS)
end

-- Whether `version` is a revision of the store.
local function is_revision(version, head)
  return version >= 1 and version <= head and version == math.floor(version)
end

-- Whether what is kept of a topic, sum and value, is what was written for this version and side.
local function is_intact(topic, version, live, kept, head)
  if not kept or not is_revision(version, head) or (#kept > SUM_DIGITS) ~= live then
    return false
  end
  return record_sum(topic, version, kept:sub(SUM_DIGITS + 1)) == kept:sub(1, SUM_DIGITS)
end

local function image_at(namespace, image)
  return '{' .. namespace .. '}:' .. image .. ':'
end

-- The sum of what meta holds of a store.
local function meta_sum(store)
  return sum_of(LAYOUT, store.image, store.epoch, decimal(store.head), decimal(store.floor), store.lineage,
    decimal(store.start))
end

-- Writes all of a store's meta, in one command.
local function save_meta(store)
  redis.call('HSET', store.meta, 'layout', LAYOUT, 'image', store.image, 'epoch', store.epoch, 'head',
    decimal(store.head), 'floor', decimal(store.floor), 'lineage', store.lineage, 'start', decimal(store.start), 'sum',
    meta_sum(store))
end

-- The store of a namespace, as it is now. Returns nil and an error, of which Python knows the first word, if there is
-- none that may be used. `layout` is that of this library, unless an older store is to be read.
local function load_store(namespace, layout)
  -- Asked each time: a replica answers with what was true once, and its clients would think it new.
  if not redis.call('INFO', 'replication'):find('role:master', 1, true) then
    return nil, 'REPLICA this server is a replica'
  end
  local meta = '{' .. namespace .. '}:meta'
  local found = redis.call('HMGET', meta, 'layout', 'image', 'epoch', 'head', 'floor', 'lineage', 'start', 'sum')
  if not found[1] then
    if redis.call('EXISTS', meta) == 1 then
      return nil, 'FOREIGN the key ' .. meta .. ' is not of softstate'
    end
    return nil, 'NOSTORE there is no store in namespace ' .. namespace
  end
  if found[1] ~= layout then
    if found[1] == '1' then
      return nil, 'OLDLAYOUT the store has layout 1, and is to be carried over'
    elseif found[1] == LAYOUT then
      return nil, 'TAKENOVER another program has carried the store over'
    end
    return nil, 'NEWLAYOUT the store has layout ' .. found[1] .. ', this library knows ' .. LAYOUT
  end
  for index = 2, 7 do
    if not found[index] then
      return nil, 'BROKEN the record of the store, ' .. meta .. ', is damaged'
    end
  end
  local store = {
    namespace = namespace, meta = meta, debris = '{' .. namespace .. '}:debris', swept = '{' .. namespace .. '}:swept',
    channel = '{' .. namespace .. '}:wake', at = image_at(namespace, found[2]), image = found[2], epoch = found[3],
    head = tonumber(found[4]), floor = tonumber(found[5]), lineage = found[6], start = tonumber(found[7]),
  }
  if not (store.head and store.floor and store.start) or (layout == LAYOUT and found[8] ~= meta_sum(store)) then
    return nil, 'BROKEN the record of the store, ' .. meta .. ', is damaged'
  end
  return store
end

local function position_of(store)
  return store.epoch .. '.' .. store.lineage .. '.' .. decimal(store.head)
end

-- The entry of a lineage row, and the nonce of an entry; false if it is damaged.
local function row_entry(start, lineage)
  return sum_of(start, lineage) .. lineage
end

local function row_lineage(entry, start)
  local lineage = entry:sub(SUM_DIGITS + 1)
  return entry == row_entry(start, lineage) and lineage
end

-- The lineage in force at a revision, false above the head and before the first row.
local function lineage_at(store, revision)
  if revision > store.head then
    return false
  elseif revision >= store.start then
    return store.lineage
  end
  local key = store.at .. 'lineage'
  local found = redis.call('ZREVRANGEBYSCORE', key, decimal(revision), '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not found[1] then
    return false
  end
  -- A damaged row is on no history: a position that it is asked for counts as one of another.
  return row_lineage(found[1], decimal(tonumber(found[2])))
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
local function serve(name, flags, body, layout)
  redis.register_function {
    function_name = name,
    flags = flags,
    callback = function(keys, arguments)
      if #keys ~= 1 then
        return redis.error_reply('ERR ' .. name .. ' takes one key, the namespace, not ' .. #keys)
      end
      local store, trouble = load_store(keys[1], layout or LAYOUT)
      if not store then
        return redis.error_reply(trouble)
      end
      return body(store, arguments)
    end,
  }
end

-- The name of a function for nodes: it has the layout in it, so that a node of another layout finds none.
local function for_nodes(name)
  return 'softstate_' .. LAYOUT .. '_' .. name
end
