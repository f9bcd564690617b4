-- Changing topics: verdicts, revisions, and the records and keys of a change.

-- The state of some topics in an image: topic -> { version =, live = }, version 0 where there is no record.
-- One that is on both sides is `mixed`: damaged.
local function look_up(at, topics)
  local states = {}
  local dead = ask_many('ZMSCORE', at .. 'dead:/', topics)
  for index, version in ipairs(ask_many('ZMSCORE', at .. 'live:/', topics)) do
    local live = version and true or false
    states[topics[index]] = {
      version = tonumber(version or dead[index] or 0), live = live, mixed = live and dead[index] and true, readable = true,
    }
  end
  return states
end

-- Finds out which of the topics, some of those that were looked up, are damaged: they count as existing.
local function verify(store, states, topics)
  for index, kept in ipairs(ask_many('HMGET', store.at .. 'record', topics)) do
    local topic = topics[index]
    local state = states[topic]
    if state.version ~= 0 and (state.mixed or not is_intact(topic, state.version, state.live, kept, store.head)) then
      state.readable, state.live = false, true
    end
  end
end

-- Puts records into an image. `befores` has what it held of these topics, `afters` topic -> { version =, value = },
-- without a value for a tombstone. Gathered into few commands, each of which costs about as much as a short function.
local function put_records(at, befores, afters)
  local records, added, removed = {}, {}, {}
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
    if not after.value then
      side, other = other, side
    end
    records[#records + 1] = topic
    records[#records + 1] = (after.sum or record_sum(topic, after.version, after.value or '')) .. (after.value or '')
    local moved = before.mixed or not before.readable or (before.version ~= 0 and before.live ~= (after.value ~= nil))
    local version = decimal(after.version)
    for _, prefix in ipairs(prefixes_of(topic)) do
      note(added, at .. side .. prefix, version, topic)
      if moved then
        note(removed, at .. other .. prefix, topic)
      end
    end
  end
  call_many('HSET', at .. 'record', records)
  for key, list in pairs(removed) do
    call_many('ZREM', key, list)
  end
  for key, list in pairs(added) do
    call_many('ZADD', key, list)
  end
end

local function key_sum(name, digest, version)
  return sum_of(name, digest, decimal(version))
end

-- Keys that are held, of those that `changes` have: name -> { digest =, version = }. A damaged one is not.
local function look_up_keys(at, changes)
  local names, held = {}, {}
  for _, change in ipairs(changes) do
    if change.key then
      names[#names + 1] = change.key
    end
  end
  local digests = ask_many('HMGET', at .. 'key', names)
  for index, version in ipairs(ask_many('ZMSCORE', at .. 'keylog', names)) do
    local kept = digests[index]
    if version and kept then
      local digest = kept:sub(SUM_DIGITS + 1)
      if key_sum(names[index], digest, tonumber(version)) == kept:sub(1, SUM_DIGITS) then
        held[names[index]] = { digest = digest, version = tonumber(version) }
      end
    end
  end
  return held
end

local function put_keys(at, made)
  local digests, versions = {}, {}
  for name, key in pairs(made) do
    digests[#digests + 1], digests[#digests + 2] = name, key_sum(name, key.digest, key.version) .. key.digest
    versions[#versions + 1], versions[#versions + 2] = decimal(key.version), name
  end
  call_many('HSET', at .. 'key', digests)
  call_many('ZADD', at .. 'keylog', versions)
end

-- Publishers that the store remembers, of those that `changes` have: id -> { settled =, touched =, uses = }, `uses` by
-- number { version, changed, digest }. A damaged one is not remembered.
local function look_up_publishers(at, changes)
  local ids, found = {}, {}
  for _, change in ipairs(changes) do
    if change.number and not found[change.number.publisher] then
      ids[#ids + 1] = change.number.publisher
      found[change.number.publisher] = true
    end
  end
  found = {}
  for index, kept in ipairs(ask_many('HMGET', at .. 'publisher', ids)) do
    local packed = kept and kept:sub(SUM_DIGITS + 1)
    if kept and sum_of(ids[index], packed) == kept:sub(1, SUM_DIGITS) then
      local row, uses = cmsgpack.unpack(packed), {}
      for place = 3, #row do
        uses[row[place][1]] = { version = row[place][2], changed = row[place][3], digest = row[place][4] }
      end
      found[ids[index]] = { settled = row[1], touched = row[2], uses = uses }
    end
  end
  return found
end

-- Puts publishers into an image, as a whole each, without the uses of settled numbers.
local function put_publishers(at, publishers)
  local rows, touched = {}, {}
  for id, publisher in pairs(publishers) do
    local row = { publisher.settled, publisher.touched }
    for number, use in pairs(publisher.uses) do
      if number > publisher.settled then
        row[#row + 1] = { number, use.version, use.changed, use.digest }
      end
    end
    local packed = cmsgpack.pack(row)
    rows[#rows + 1], rows[#rows + 2] = id, sum_of(id, packed) .. packed
    touched[#touched + 1], touched[#touched + 2] = decimal(publisher.touched), id
  end
  call_many('HSET', at .. 'publisher', rows)
  call_many('ZADD', at .. 'publisherlog', touched)
end

-- As the expected version: the topic must exist, at any version.
local EXISTS = -1

-- The rule of softstate.store.rules.judge for what a topic must be.
local function is_expected(change, state)
  local expect = change.expect
  if not expect then
    return true
  elseif not state.readable then
    return expect == EXISTS
  elseif expect == EXISTS then
    return state.live
  elseif expect == 0 then
    return not state.live
  end
  return expect == state.version and (state.live or change.value ~= nil)
end

-- The rule of softstate.store.rules.judge.judge: whether there is a reason not to apply a change, or nothing
-- to do. Python finds which.
local function is_judged(change, state, used, publisher, full, crowded)
  local number = change.number
  if number and publisher and (number.seq <= publisher.settled or publisher.uses[number.seq]) then
    return true
  end
  if used or not change.witnessed or not is_expected(change, state) or (change.key and full) then
    return true
  end
  return number and not publisher and crowded
end

-- What Python needs to find the reason for which a change was not applied; see `_verdict` in write.py.
local function reason_of(change, state, used, publisher, full, crowded)
  local use = publisher and publisher.uses[change.number.seq]
  return {
    state.version, state.live and 1 or 0, state.readable and 1 or 0,
    used and used.digest or false, used and used.version or 0, change.witnessed and 1 or 0, full and 1 or 0,
    publisher and publisher.settled or false, use and use.digest or false, use and use.version or 0,
    use and use.changed and 1 or 0, crowded and 1 or 0,
  }
end

-- Looks up all that a group of changes is judged by.
local function known_of(store, changes)
  local topics, compared = {}, {}
  for index, change in ipairs(changes) do
    topics[index] = change.topic
    if change.expect or not change.value then
      compared[#compared + 1] = change.topic
    end
  end
  local states = look_up(store.at, topics)
  verify(store, states, compared)
  return states, look_up_keys(store.at, changes), look_up_publishers(store.at, changes)
end

-- Applies changes { topic =, value =, expect =, key =, digest =, witnessed =, number = } in order. Returns the head that
-- they began at and, for each, its version or the state that it was refused for.
local function apply(store, changes, keys_max, publishers_max)
  local verdicts, afters, made, noted = {}, {}, {}, {}
  local befores, held, remembered = known_of(store, changes)
  local keys = redis.call('ZCARD', store.at .. 'keylog')
  local publishers = redis.call('ZCARD', store.at .. 'publisherlog')
  local before, head = store.head, store.head
  for index, change in ipairs(changes) do
    local after, number = afters[change.topic], change.number
    local state = after and { version = after.version, live = after.value ~= nil, readable = true }
      or befores[change.topic]
    local used = change.key and (held[change.key] or made[change.key])
    local publisher = number and (noted[number.publisher] or remembered[number.publisher])
    local full, crowded = keys >= keys_max, publishers >= publishers_max
    local judged = is_judged(change, state, used, publisher, full, crowded)
    local nothing_to_do = not judged and not change.value and not state.live
    if judged or nothing_to_do then
      verdicts[index] = reason_of(change, state, used, publisher, full, crowded)
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
    if number and not judged then
      if not publisher then
        publisher = { settled = 0, uses = {} }
        publishers = publishers + 1
      end
      publisher.settled, publisher.touched = math.max(publisher.settled, number.settled), head
      publisher.uses[number.seq] =
        { version = nothing_to_do and state.version or head, changed = not nothing_to_do, digest = change.digest }
      noted[number.publisher] = publisher
    end
  end
  if next(afters) then
    move_head(store, head)
    put_records(store.at, befores, afters)
    put_keys(store.at, made)
  end
  put_publishers(store.at, noted)
  if next(afters) then
    end_changes(store)
  end
  return before, verdicts
end

-- How many arguments a change has in `write`.
local STRIDE = 9

-- seen, keys_max, publishers_max, then for each change: topic, value ("" to delete), expect ("" for none), topic NUL key
-- ("" for none), digest, witness ("" for none), publisher ("" for none), its number, settled. Without verdicts in the
-- answer nothing was applied: the store was rewound.
serve(for_nodes('write'), {}, function(store, arguments)
  local seen, changes = arguments[1], {}
  if not on_history(store, seen) then
    return { state_of(store, seen) }
  end
  for first = 4, #arguments, STRIDE do
    local topic, value, expect, key, digest, witness, publisher, seq, settled =
      unpack(arguments, first, first + STRIDE - 1)
    changes[#changes + 1] = {
      topic = topic, value = value ~= '' and value or nil, expect = tonumber(expect), key = key ~= '' and key or nil,
      digest = digest, witnessed = witness == '' or on_history(store, witness),
      number = publisher ~= '' and { publisher = publisher, seq = tonumber(seq), settled = tonumber(settled) } or nil,
    }
  end
  local before, verdicts = apply(store, changes, tonumber(arguments[2]), tonumber(arguments[3]))
  return { state_of(store, seen), before, verdicts }
end)

-- Rows that one call of `compact` removes at most, of tombstones, of keys and of publishers.
local COMPACT_ROWS = 1024

-- Forgets the lineage rows below the floor, but the one in force there.
local function forget_rows(store)
  local key = store.at .. 'lineage'
  local found = redis.call('ZREVRANGEBYSCORE', key, decimal(store.floor), '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if found[2] then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. found[2])
  end
end

-- seen, tombstones and keys up to which revision. Answers with the floor, and 1 if there is more to remove.
serve(for_nodes('compact'), { 'allow-oom' }, function(store, arguments)
  local seen, at = arguments[1], store.at
  if not on_history(store, seen) then
    return { state_of(store, seen) }
  end
  local graves = redis.call('ZRANGEBYSCORE', at .. 'dead:/', '-inf', arguments[2], 'LIMIT', 0, COMPACT_ROWS)
  if #graves > 0 then
    local newest = tonumber(redis.call('ZSCORE', at .. 'dead:/', graves[#graves]))
    store.floor = math.max(store.floor, newest)
    save_meta(store)
    forget_rows(store)
    call_many('HDEL', at .. 'record', graves)
    for _, topic in ipairs(graves) do
      for _, prefix in ipairs(prefixes_of(topic)) do
        redis.call('ZREM', at .. 'dead:' .. prefix, topic)
      end
    end
  end
  local names = redis.call('ZRANGEBYSCORE', at .. 'keylog', '-inf', arguments[3], 'LIMIT', 0, COMPACT_ROWS)
  call_many('HDEL', at .. 'key', names)
  call_many('ZREM', at .. 'keylog', names)
  local silent = redis.call('ZRANGEBYSCORE', at .. 'publisherlog', '-inf', arguments[3], 'LIMIT', 0, COMPACT_ROWS)
  call_many('HDEL', at .. 'publisher', silent)
  call_many('ZREM', at .. 'publisherlog', silent)
  local more = #graves == COMPACT_ROWS or #names == COMPACT_ROWS or #silent == COMPACT_ROWS
  return { state_of(store, seen), store.floor, more and 1 or 0 }
end)
