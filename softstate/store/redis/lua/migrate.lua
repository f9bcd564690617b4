-- Carrying a store of layout 1 over: its image is read page by page, built again aside, and put in place in one step. A
-- crash before that leaves an image that is swept away, and everything as it was; a commit meanwhile has it begin again.

local OLD = '1'

-- after which revision, limit, limit_bytes. Answers with epoch, head, floor, the revision at which the page ends, and the
-- page as of `dump`, but of records topic, version, value, and 1, or 0 if the version is no whole number; false for a
-- value that is gone.
serve(for_nodes('old'), { 'no-writes' }, function(store, arguments)
  local after, limit, limit_bytes = unpack(arguments)
  limit = tonumber(limit)
  local scans = { { prefix = '/', after = tonumber(after), tombstones = true } }
  local page, more = merge(store, scans, {}, limit)
  local flat, size, upto = {}, 0, store.head
  for index, entry in ipairs(page) do
    if entry.cut and (size >= tonumber(limit_bytes) or (more and index == #page)) then
      upto = math.floor(page[index - 1].version)
      break
    end
    local value = entry.live and redis.call('HGET', store.at .. 'value', entry.topic)
    local whole = entry.version == math.floor(entry.version)
    for _, part in ipairs { entry.topic, entry.live and entry.version or -entry.version, value, whole and 1 or 0 } do
      flat[#flat + 1] = part
    end
    size = size + (value and #value or 0)
  end
  local key = store.at .. 'lineage'
  local rows = redis.call('ZRANGEBYSCORE', key, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, decimal(limit + 1))
  local keys, keys_upto = keys_above(store, after, limit, false)
  return { store.epoch, store.head, store.floor, math.min(upto, keys_upto), flat, rows, keys }
end, OLD)

serve(for_nodes('old_begin'), {}, function(store, arguments)
  redis.call('SADD', store.debris, arguments[1])
  return 1
end, OLD)

serve(for_nodes('old_stage'), {}, stage, OLD)

-- image, and the head that it was built at. The lineage goes on: the next call that changes anything begins a row.
serve(for_nodes('carry_over'), {}, function(store, arguments)
  local image = arguments[1]
  if not is_debris(store, image) or store.head ~= tonumber(arguments[2]) then
    return redis.error_reply('TAKENOVER the store has changed while it was carried over')
  end
  redis.call('SADD', store.swept, store.image)
  redis.call('SREM', store.debris, image)
  store.image, store.at = image, image_at(store.namespace, image)
  save_meta(store)
  return 1
end, OLD)
