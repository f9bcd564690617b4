-- Answering queries: fetching what softstate.store.rules.paging.answer may ask for, and not much more.

-- Bounds of one call, so that the server is never held up for long. Where a group of queries wants more, its pages are
-- cut shorter, and say so. How many names a group has, Python bounds.
local RECORDS_MAX = 8192
local BYTES_MAX = 4 * 1024 * 1024

-- Values fetched at a time, before looking whether they are enough.
local VALUES_AT_ONCE = 32

-- How much longer a stored value of a node is than its CBOR (MAGIC in softstate.store.remote.encoding).
local MAGIC_BYTES = 3

-- The entries with their values, flat: topic, version, value or false; up to one more than what brings them to
-- `limit_bytes`. Also returns whether any are left out, and their size; nil if a value is gone that should be there.
local function with_values(at, page, limit_bytes)
  local flat, size = {}, 0
  for first = 1, #page, VALUES_AT_ONCE do
    local last = math.min(first + VALUES_AT_ONCE - 1, #page)
    local topics = {}
    for index = first, last do
      topics[#topics + 1] = page[index].topic
    end
    for offset, value in ipairs(redis.call('HMGET', at .. 'value', unpack(topics))) do
      local entry = page[first + offset - 1]
      if entry.live and not value then
        return nil
      end
      local enough = size >= limit_bytes
      flat[#flat + 1] = entry.topic
      flat[#flat + 1] = entry.version
      flat[#flat + 1] = entry.live and value
      size = size + (entry.live and #value - MAGIC_BYTES or 0)
      if enough then
        return flat, true, size
      end
    end
  end
  return flat, false, size
end

-- One page of what scans find, beside `entries` that are wanted anyway: whether there is more than it holds, and the
-- records, flat, one more than belong to the page if there is more. Third, their size.
local function page_of(store, scans, entries, limit, limit_bytes)
  local page = merge(store.at, scans, entries, limit)
  local flat, short, size = with_values(store.at, page, limit_bytes)
  return (short or #page > limit) and 1 or 0, flat, size
end

-- An image always has all of its parts, unless the server threw away one: it may, if it evicts keys.
local function damaged()
  return redis.error_reply('DAMAGED values are missing')
end

-- The rule of softstate.store.rules.paging.scans_of.
local function scans_of(store, after, listed, prefixes)
  local scans = {}
  for index = 1, #prefixes, 2 do
    local since = prefixes[index + 1]
    if since < store.floor and (after == 0 or listed) then
      since = 0
    end
    scans[#scans + 1] =
      { prefix = prefixes[index], after = math.max(after, since), tombstones = after > 0 or since > 0 }
  end
  return scans
end

-- Single topics: their versions, negative for tombstones, 0 for none; and the entries that differ from those held.
local function topics_of(store, after, topics)
  local names, versions, entries = {}, {}, {}
  for index = 1, #topics, 2 do
    names[#names + 1] = topics[index]
  end
  local states = look_up(store.at, names)
  for index, topic in ipairs(names) do
    local state, held = states[topic], topics[2 * index]
    versions[index] = state.live and state.version or -state.version
    if state.version > math.max(held, after) and (state.live or after > 0 or held > 0) then
      entries[#entries + 1] = { topic = topic, version = state.version, live = state.live }
    end
  end
  return versions, entries
end

-- seen; a group of queries as MessagePack, each { after, listed or not, limit, limit_bytes, revision of the witness,
-- topics and versions, prefixes and revisions }.
serve('read', { 'no-writes' }, function(store, arguments)
  local group = cmsgpack.unpack(arguments[2])
  local answers, records, bytes = {}, RECORDS_MAX, BYTES_MAX
  for index, query in ipairs(group) do
    local after, listed, limit, limit_bytes, witness, topics, prefixes = unpack(query)
    local share = 1 / (#group - index + 1)
    limit = math.min(limit, math.max(1, math.floor(records * share)))
    limit_bytes = math.min(limit_bytes, math.max(1, math.floor(bytes * share)))
    local versions, entries = topics_of(store, after, topics)
    local scans = scans_of(store, after, listed, prefixes)
    local more, flat, size = page_of(store, scans, entries, limit, limit_bytes)
    if not flat then
      return damaged()
    end
    records, bytes = math.max(0, records - #flat / 3), math.max(0, bytes - size)
    answers[index] = { lineage_at(store, witness), versions, more, flat }
  end
  return { state_of(store, arguments[1]), answers }
end)

local function rows_above(store, after, limit)
  local key = store.at .. 'lineage'
  return redis.call('ZRANGEBYSCORE', key, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
end

-- seen, after which revision, limit, limit_bytes. Answers with the lineage at that revision, a page, and lineage rows.
serve('feed', { 'no-writes' }, function(store, arguments)
  local seen, after, limit, limit_bytes = unpack(arguments)
  local scans = { { prefix = '/', after = tonumber(after), tombstones = true } }
  local more, flat = page_of(store, scans, {}, tonumber(limit), tonumber(limit_bytes))
  if not flat then
    return damaged()
  end
  return { state_of(store, seen), lineage_at(store, tonumber(after)), more, flat, rows_above(store, after, -1) }
end)

-- The same for everything that is held. Answers with a page, lineage rows and keys, one more than `limit` of each.
serve('dump', { 'no-writes' }, function(store, arguments)
  local seen, after, limit, limit_bytes = unpack(arguments)
  local scans = { { prefix = '/', after = tonumber(after), tombstones = true } }
  local more, flat = page_of(store, scans, {}, tonumber(limit), tonumber(limit_bytes))
  if not flat then
    return damaged()
  end
  local one_more = decimal(tonumber(limit) + 1)
  local names, keys = {}, {}
  local found =
    redis.call('ZRANGEBYSCORE', store.at .. 'keylog', '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, one_more)
  for index = 1, #found, 2 do
    names[#names + 1] = found[index]
  end
  for index, digest in ipairs(ask_many('HMGET', store.at .. 'key', names)) do
    keys[#keys + 1], keys[#keys + 2], keys[#keys + 3] = names[index], digest, tonumber(found[2 * index])
  end
  return { state_of(store, seen), more, flat, rows_above(store, after, one_more), keys }
end)
