-- Which library this is. A node replaces an older one; a newer one must serve older nodes as they know it.
redis.register_function {
  function_name = 'softstate_library',
  flags = { 'no-writes' },
  callback = function() return { @REVISION@, '@BUILD@' } end,
}
