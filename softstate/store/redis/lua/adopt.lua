-- Taking over another store: its image is built aside, page by page, and put in place in one step.

local function is_debris(store, image)
  return redis.call('SISMEMBER', store.debris, image) == 1
end

local function taken_over()
  return redis.error_reply('TAKENOVER another program has begun to adopt a store here')
end

-- image: announces one to be built, which is swept away if it is never adopted.
serve('begin', {}, function(store, arguments)
  redis.call('SADD', store.debris, arguments[1])
  return 1
end)

-- image; number of lineage rows, then revision and nonce of each; number of keys, then topic NUL key, digest and
-- version of each; then topic, version, value ("" for a tombstone) of each record.
serve('stage', {}, function(store, arguments)
  local image, index = arguments[1], 2
  if not is_debris(store, image) then
    return taken_over()
  end
  local at = image_at(store.namespace, image)
  local function count()
    index = index + 1
    return tonumber(arguments[index - 1])
  end
  local rows = {}
  for _ = 1, count() do
    rows[#rows + 1], rows[#rows + 2] = arguments[index], arguments[index + 1]
    index = index + 2
  end
  call_many('ZADD', at .. 'lineage', rows)
  local keys = {}
  for _ = 1, count() do
    keys[arguments[index]] = { digest = arguments[index + 1], version = tonumber(arguments[index + 2]) }
    index = index + 3
  end
  put_keys(at, keys)
  local topics, afters = {}, {}
  for first = index, #arguments, 3 do
    local topic, version, value = unpack(arguments, first, first + 2)
    topics[#topics + 1] = topic
    afters[topic] = { version = tonumber(version), value = value ~= '' and value or nil }
  end
  put_records(at, look_up(at, topics), afters)
  return 1
end)

-- image, epoch, head, floor, and 1 to replace the contents.
serve('adopt', {}, function(store, arguments)
  local image, epoch, head, floor, replace = unpack(arguments)
  if not is_debris(store, image) then
    return taken_over()
  end
  local rows = redis.call('ZCARD', store.at .. 'lineage')
  if replace ~= '1' and (store.head > rows or store.floor > 0) then
    return redis.error_reply('NOTEMPTY topics have been published here')
  end
  redis.call('SREM', store.debris, image)
  redis.call('SADD', store.debris, store.image)
  redis.call('HSET', store.meta, 'image', image, 'epoch', epoch, 'head', head, 'floor', floor)
  store.at, store.image, store.epoch, store.head, store.floor =
    image_at(store.namespace, image), image, epoch, tonumber(head), tonumber(floor)
  begin_lineage(store)
  end_changes(store)
  return { state_of(store, position_of(store)) }
end)

-- Deletes the store; its image is debris then.
serve('destroy', { 'allow-oom' }, function(store)
  redis.call('SADD', store.debris, store.image)
  redis.call('DEL', store.meta)
  return 1
end)
