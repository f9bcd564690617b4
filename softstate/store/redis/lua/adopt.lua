-- Taking over another store: its image is built aside, page by page, and put in place in one step.

-- Whether an image may still be added to, and put in place: not once a sweep has claimed it.
local function is_debris(store, image)
  return redis.call('SISMEMBER', store.debris, image) == 1
end

local function taken_over()
  return redis.error_reply('TAKENOVER another program has begun to adopt a store here')
end

-- image: announces one to be built, which is swept away if it is never adopted.
serve(for_nodes('begin'), {}, function(store, arguments)
  redis.call('SADD', store.debris, arguments[1])
  return 1
end)

-- The sum of a record that could not be read where it comes from: it matches none.
local NO_SUM = ('-'):rep(SUM_DIGITS)

-- image; number of lineage rows, then revision and nonce of each; number of keys, then topic NUL key, digest and
-- version of each; number of publishers, then id, settled, touched, number of uses, and number, version, changed (1 or
-- 0) and digest of each use; then topic, version, value ("" for a tombstone) and 1, or 0 if it is unreadable, of each
-- record.
local function stage(store, arguments)
  local image, index = arguments[1], 2
  if not is_debris(store, image) then
    return taken_over()
  end
  local at = image_at(store.namespace, image)
  local function take()
    index = index + 1
    return arguments[index - 1]
  end
  local function number()
    return tonumber(take())
  end
  local rows, keys, publishers = {}, {}, {}
  for _ = 1, number() do
    local start = take()
    rows[#rows + 1], rows[#rows + 2] = start, row_entry(decimal(tonumber(start)), take())
  end
  call_many('ZADD', at .. 'lineage', rows)
  for _ = 1, number() do
    local name, digest = take(), take()
    keys[name] = { digest = digest, version = number() }
  end
  put_keys(at, keys)
  for _ = 1, number() do
    local id, uses = take(), {}
    publishers[id] = { settled = number(), touched = number(), uses = uses }
    for _ = 1, number() do
      local seq, version, changed = number(), number(), take() == '1'
      uses[seq] = { version = version, changed = changed, digest = take() }
    end
  end
  put_publishers(at, publishers)
  local topics, afters = {}, {}
  for first = index, #arguments, 4 do
    local topic, version, value, readable = unpack(arguments, first, first + 3)
    topics[#topics + 1] = topic
    afters[topic] = {
      version = tonumber(version), value = value ~= '' and value or nil, sum = readable == '0' and NO_SUM or nil,
    }
  end
  put_records(at, look_up(at, topics), afters)
  return 1
end

serve(for_nodes('stage'), {}, stage)

-- image, epoch, head, floor, and 1 to replace the contents.
serve(for_nodes('adopt'), {}, function(store, arguments)
  local image, epoch, head, floor, replace = unpack(arguments)
  if not is_debris(store, image) then
    return taken_over()
  end
  local rows = redis.call('ZCARD', store.at .. 'lineage')
  if replace ~= '1' and (store.head > rows or store.floor > 0) then
    return redis.error_reply('NOTEMPTY topics have been published here')
  end
  redis.call('SADD', store.swept, store.image)
  redis.call('SREM', store.debris, image)
  store.at, store.image, store.epoch, store.head, store.floor =
    image_at(store.namespace, image), image, epoch, tonumber(head), tonumber(floor)
  begin_lineage(store)
  end_changes(store)
  return { state_of(store, position_of(store)) }
end)

-- Deletes the store; its image is to be swept then.
serve(for_nodes('destroy'), { 'allow-oom' }, function(store)
  redis.call('SADD', store.swept, store.image)
  redis.call('DEL', store.meta)
  return 1
end)
