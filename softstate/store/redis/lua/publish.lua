-- Changing topics: verdicts, revisions, and the records and keys of a change.

-- The state of some topics in an image: topic -> { version =, live = }, version 0 where there is no record.
local function look_up(at, topics)
  local states, missing = {}, {}
  for index, version in ipairs(ask_many('ZMSCORE', at .. 'live:/', topics)) do
    local topic = topics[index]
    if version then
      states[topic] = { version = tonumber(version), live = true }
    else
      missing[#missing + 1] = topic
    end
  end
  for index, version in ipairs(ask_many('ZMSCORE', at .. 'dead:/', missing)) do
    states[missing[index]] = { version = tonumber(version or 0), live = false }
  end
  return states
end

-- Puts records into an image. `befores` has what it held of these topics, `afters` topic -> { version =, value = },
-- without a value for a tombstone. Gathered into few commands, each of which costs about as much as a short function.
local function put_records(at, befores, afters)
  local values, forgotten, added, removed = {}, {}, {}, {}
  local function note(lists, key, ...)
    local list = lists[key] or {}
    lists[key] = list
    for _, item in ipairs { ... } do
      list[#list + 1] = item
    end
  end
  for topic, after in pairs(afters) do
    local before = befores[topic]
    local side, other = 'live:', 'dead:'
    if after.value then
      values[#values + 1] = topic
      values[#values + 1] = after.value
    else
      side, other = other, side
      forgotten[#forgotten + 1] = topic
    end
    local moved = before.version > 0 and before.live ~= (after.value ~= nil)
    local version = decimal(after.version)
    for _, prefix in ipairs(prefixes_of(topic)) do
      note(added, at .. side .. prefix, version, topic)
      if moved then
        note(removed, at .. other .. prefix, topic)
      end
    end
  end
  call_many('HSET', at .. 'value', values)
  call_many('HDEL', at .. 'value', forgotten)
  for key, list in pairs(removed) do
    call_many('ZREM', key, list)
  end
  for key, list in pairs(added) do
    call_many('ZADD', key, list)
  end
end

-- Keys that are held, of those that `changes` have: name -> { digest =, version = }.
local function look_up_keys(at, changes)
  local names, held = {}, {}
  for _, change in ipairs(changes) do
    if change.key then
      names[#names + 1] = change.key
    end
  end
  local digests = ask_many('HMGET', at .. 'key', names)
  for index, version in ipairs(ask_many('ZMSCORE', at .. 'keylog', names)) do
    if version then
      held[names[index]] = { digest = digests[index], version = tonumber(version) }
    end
  end
  return held
end

local function put_keys(at, made)
  local digests, versions = {}, {}
  for name, key in pairs(made) do
    digests[#digests + 1], digests[#digests + 2] = name, key.digest
    versions[#versions + 1], versions[#versions + 2] = decimal(key.version), name
  end
  call_many('HSET', at .. 'key', digests)
  call_many('ZADD', at .. 'keylog', versions)
end

-- As the expected version: the topic must exist, at whatever version.
local EXISTS = -1

-- The rule of softstate.store.rules.judge.judge: whether there is a reason not to apply a change, or nothing
-- to do. Python finds which.
local function is_judged(change, state, used, full)
  if used or not change.witnessed then
    return true
  end
  local expect = change.expect
  if not change.value and not state.live then
    return true
  end
  if expect == EXISTS and not state.live then
    return true
  end
  if expect and expect ~= EXISTS and expect ~= state.version and not (expect == 0 and not state.live) then
    return true
  end
  return change.key and full
end

-- Applies changes { topic =, value =, expect =, key =, digest =, witnessed = } in order. Returns the head that they
-- began at and, for each, its version or the state that it was refused for.
local function apply(store, changes, keys_max)
  local topics, verdicts, afters, made = {}, {}, {}, {}
  for index, change in ipairs(changes) do
    topics[index] = change.topic
  end
  local befores = look_up(store.at, topics)
  local held = look_up_keys(store.at, changes)
  local keys = redis.call('ZCARD', store.at .. 'keylog')
  local before, head = store.head, store.head
  for index, change in ipairs(changes) do
    local after = afters[change.topic]
    local state = after and { version = after.version, live = after.value ~= nil } or befores[change.topic]
    local used = change.key and (held[change.key] or made[change.key])
    local full = keys >= keys_max
    if is_judged(change, state, used, full) then
      verdicts[index] = {
        state.version, state.live and 1 or 0, used and used.digest or false, used and used.version or 0,
        change.witnessed and 1 or 0, full and 1 or 0,
      }
    else
      if not next(afters) then
        continue_history(store)
        before, head = store.head, store.head
      end
      head = head + 1
      verdicts[index] = head
      afters[change.topic] = { version = head, value = change.value }
      if change.key then
        made[change.key] = { digest = change.digest, version = head }
        keys = keys + 1
      end
    end
  end
  if next(afters) then
    move_head(store, head)
    put_records(store.at, befores, afters)
    put_keys(store.at, made)
    end_changes(store)
  end
  return before, verdicts
end

-- How many arguments a change has in softstate_write.
local STRIDE = 6

-- seen, keys_max, then for each change: topic, value ("" to delete), expect ("" for none), topic NUL key ("" for none),
-- digest, witness ("" for none). Without verdicts in the answer nothing was applied: the store was rewound.
serve('write', {}, function(store, arguments)
  local seen, changes = arguments[1], {}
  if not on_history(store, seen) then
    return { state_of(store, seen) }
  end
  for first = 3, #arguments, STRIDE do
    local topic, value, expect, key, digest, witness = unpack(arguments, first, first + STRIDE - 1)
    changes[#changes + 1] = {
      topic = topic, value = value ~= '' and value or nil, expect = tonumber(expect), key = key ~= '' and key or nil,
      digest = digest, witnessed = witness == '' or on_history(store, witness),
    }
  end
  local before, verdicts = apply(store, changes, tonumber(arguments[2]))
  return { state_of(store, seen), before, verdicts }
end)

-- Rows that one call of softstate_compact removes at most, of tombstones and of keys.
local COMPACT_ROWS = 1024

-- seen, tombstones and keys up to which revision. Answers with the floor, and 1 if there is more to remove.
serve('compact', { 'allow-oom' }, function(store, arguments)
  local seen, at = arguments[1], store.at
  if not on_history(store, seen) then
    return { state_of(store, seen) }
  end
  local graves = redis.call('ZRANGEBYSCORE', at .. 'dead:/', '-inf', arguments[2], 'LIMIT', 0, COMPACT_ROWS)
  if #graves > 0 then
    local newest = tonumber(redis.call('ZSCORE', at .. 'dead:/', graves[#graves]))
    store.floor = math.max(store.floor, newest)
    redis.call('HSET', store.meta, 'floor', decimal(store.floor))
    for _, topic in ipairs(graves) do
      for _, prefix in ipairs(prefixes_of(topic)) do
        redis.call('ZREM', at .. 'dead:' .. prefix, topic)
      end
    end
  end
  local names = redis.call('ZRANGEBYSCORE', at .. 'keylog', '-inf', arguments[3], 'LIMIT', 0, COMPACT_ROWS)
  call_many('HDEL', at .. 'key', names)
  call_many('ZREM', at .. 'keylog', names)
  return { state_of(store, seen), store.floor, (#graves == COMPACT_ROWS or #names == COMPACT_ROWS) and 1 or 0 }
end)
