-- Answering queries: fetching what softstate.store.rules.paging.answer may ask for, and not much more.

-- Bounds of one call, so that the server is never held up for long. Where a group of queries wants more, its pages are
-- cut shorter, and say so. How many names a group has, Python bounds.
local RECORDS_MAX = 8192
local BYTES_MAX = 4 * 1024 * 1024

-- Values fetched at a time, before looking whether they are enough: few at first, since they may be large.
local VALUES_MIN = 4
local VALUES_MAX = 64

-- How much longer the record of a value is than its CBOR (MAGIC in softstate.store.remote.encoding).
local ENVELOPE_BYTES = 3 + SUM_DIGITS

-- The entries with their records, flat: topic, version (negative for a tombstone), record or false if there is none; up
-- to the first beyond what brings them to `limit_bytes`. Also returns whether any are left out, and their size.
local function with_values(at, page, limit_bytes)
  local flat, size = {}, 0
  local first, count = 1, VALUES_MIN
  while first <= #page do
    local last = math.min(first + count - 1, #page)
    local topics = {}
    for index = first, last do
      topics[#topics + 1] = page[index].topic
    end
    for offset, kept in ipairs(redis.call('HMGET', at .. 'record', unpack(topics))) do
      local entry = page[first + offset - 1]
      local enough = entry.cut and size >= limit_bytes
      flat[#flat + 1] = entry.topic
      flat[#flat + 1] = entry.live and entry.version or -entry.version
      -- Python will see the version as a whole number.
      flat[#flat + 1] = entry.version == math.floor(entry.version) and kept
      size = size + (kept and math.max(0, #kept - ENVELOPE_BYTES) or 0)
      if enough then
        return flat, true, size
      end
    end
    first, count = last + 1, math.min(4 * count, VALUES_MAX)
  end
  return flat, false, size
end

-- One page of what scans find, beside `entries` that are wanted anyway: whether there is more than it holds, and the
-- records, flat; if there is more, the last is not of the page, and the one before it tells where the page ends. Third,
-- their size.
local function page_of(store, scans, entries, limit, limit_bytes)
  local page, more = merge(store, scans, entries, limit)
  local flat, short, size = with_values(store.at, page, limit_bytes)
  return (short or more) and 1 or 0, flat, size
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

-- Single topics: their versions, negative for tombstones, 0 for none; the entries that differ from those held; and the
-- topics whose damaged record has a version of no use (`Snapshot.damaged` in softstate.store.rules.history).
local function topics_of(store, after, topics)
  local names, versions, entries, damaged, doubted = {}, {}, {}, {}, {}
  for index = 1, #topics, 2 do
    names[#names + 1] = topics[index]
  end
  local states = look_up(store.at, names)
  for index, topic in ipairs(names) do
    local state = states[topic]
    if state.version ~= 0 and (topics[2 * index] > state.version or not is_revision(state.version, store.head)) then
      doubted[#doubted + 1] = topic
    end
  end
  verify(store, states, doubted)
  for index, topic in ipairs(names) do
    local state, held = states[topic], topics[2 * index]
    versions[index] = state.live and state.version or -state.version
    if not state.readable then
      versions[index] = 0
      damaged[#damaged + 1] = topic
    elseif state.version > math.max(held, after) and (state.live or after > 0 or held > 0) then
      entries[#entries + 1] = { topic = topic, version = state.version, live = state.live }
    end
  end
  return versions, entries, damaged
end

-- seen; a group of queries as MessagePack, each { after, listed or not, limit, limit_bytes, revision of the witness,
-- topics and versions, prefixes and revisions }.
serve(for_nodes('read'), { 'no-writes' }, function(store, arguments)
  local group = cmsgpack.unpack(arguments[2])
  local answers, records, bytes = {}, RECORDS_MAX, BYTES_MAX
  for index, query in ipairs(group) do
    local after, listed, limit, limit_bytes, witness, topics, prefixes = unpack(query)
    local share = 1 / (#group - index + 1)
    limit = math.min(limit, math.max(1, math.floor(records * share)))
    limit_bytes = math.min(limit_bytes, math.max(1, math.floor(bytes * share)))
    local versions, entries, damaged = topics_of(store, after, topics)
    local scans = scans_of(store, after, listed, prefixes)
    local more, flat, size = page_of(store, scans, entries, limit, limit_bytes)
    records, bytes = math.max(0, records - #flat / 3), math.max(0, bytes - size)
    local unranked = after == 0 and unranked_of(store, scans, RECORDS_MAX) or {}
    answers[index] = { lineage_at(store, witness), versions, more, flat, damaged, unranked }
  end
  return { state_of(store, arguments[1]), answers }
end)

-- The first `limit` members of a sorted set above a revision and up to the head, and all up to the end of the page that
-- they make, flat, with scores; and that end, a revision. Damaged ones count, or a page with few sound ones would look
-- like the last.
local function logged_above(store, key, after, limit)
  local head = decimal(store.head)
  local count = limit < math.huge and decimal(limit + 1) or '-1'
  local found = redis.call('ZRANGEBYSCORE', key, '(' .. after, head, 'WITHSCORES', 'LIMIT', 0, count)
  if #found <= 2 * limit then
    return found, store.head
  end
  -- Damage can leave several at one revision, or one between two.
  local upto = math.ceil(tonumber(found[2 * limit]))
  return redis.call('ZRANGEBYSCORE', key, '(' .. after, decimal(upto), 'WITHSCORES'), upto
end

-- The lineage rows above a revision, the first `limit`, flat: lineage and revision of each. A damaged row is left out.
-- Also returns up to which revision these are all.
local function rows_above(store, after, limit)
  local rows = {}
  local found, upto = logged_above(store, store.at .. 'lineage', after, limit)
  for index = 1, #found, 2 do
    local start = tonumber(found[index + 1])
    local lineage = row_lineage(found[index], decimal(start))
    if lineage then
      rows[#rows + 1], rows[#rows + 2] = lineage, decimal(start)
    end
  end
  return rows, upto
end

-- seen, after which revision, limit, limit_bytes. Answers with the lineage at that revision, a page, and lineage rows.
serve(for_nodes('feed'), { 'no-writes' }, function(store, arguments)
  local seen, after, limit, limit_bytes = unpack(arguments)
  local scans = { { prefix = '/', after = tonumber(after), tombstones = true } }
  local more, flat = page_of(store, scans, {}, tonumber(limit), tonumber(limit_bytes))
  return { state_of(store, seen), lineage_at(store, tonumber(after)), more, flat, (rows_above(store, after, math.huge)) }
end)

-- Publishers touched above a revision, the first `limit` and all that share the revision of the last, flat: id, settled,
-- touched, and the uses of each, flat. Also returns up to which revision these are all.
local function publishers_above(store, after, limit)
  local found, upto = logged_above(store, store.at .. 'publisherlog', after, limit)
  local ids = {}
  for index = 1, #found, 2 do
    ids[#ids + 1] = found[index]
  end
  local changes, flat = {}, {}
  for index, id in ipairs(ids) do
    changes[index] = { number = { publisher = id } }
  end
  local remembered = look_up_publishers(store.at, changes)
  for index, id in ipairs(ids) do
    local publisher = remembered[id]
    if publisher then
      local uses = {}
      for number, use in pairs(publisher.uses) do
        for _, part in ipairs { number, use.version, use.changed and 1 or 0, use.digest } do
          uses[#uses + 1] = part
        end
      end
      -- By the log, which says on what page it is, and when it is forgotten.
      for _, part in ipairs { id, publisher.settled, math.ceil(tonumber(found[2 * index])), uses } do
        flat[#flat + 1] = part
      end
    end
  end
  return flat, upto
end

-- Keys above a revision, the first `limit`, flat: name, digest, version. `sums`: the digests are kept behind a sum, and a
-- damaged key is left out. Also returns up to which revision these are all.
local function keys_above(store, after, limit, sums)
  local names, keys = {}, {}
  local found, upto = logged_above(store, store.at .. 'keylog', after, limit)
  for index = 1, #found, 2 do
    names[#names + 1] = found[index]
  end
  for index, kept in ipairs(ask_many('HMGET', store.at .. 'key', names)) do
    local version = tonumber(found[2 * index])
    local digest = kept and sums and kept:sub(SUM_DIGITS + 1) or kept
    local sound = sums and digest and key_sum(names[index], digest, version) == kept:sub(1, SUM_DIGITS)
    if digest and (sound or not sums) and version == math.floor(version) then
      keys[#keys + 1], keys[#keys + 2], keys[#keys + 3] = names[index], digest, version
    end
  end
  return keys, upto
end

-- The same for everything that is held. Answers with a page, lineage rows, keys, publishers, and unranked topics.
serve(for_nodes('dump'), { 'no-writes' }, function(store, arguments)
  local seen, after, limit, limit_bytes = unpack(arguments)
  limit = tonumber(limit)
  local scans = { { prefix = '/', after = tonumber(after), tombstones = true } }
  local more, flat = page_of(store, scans, {}, limit, tonumber(limit_bytes))
  local rows, rows_upto = rows_above(store, after, limit)
  local keys, keys_upto = keys_above(store, after, limit, true)
  local publishers, publishers_upto = publishers_above(store, after, limit)
  return {
    state_of(store, seen), more, flat, rows, keys, publishers, unranked_of(store, scans, RECORDS_MAX),
    math.min(rows_upto, keys_upto, publishers_upto),
  }
end)
