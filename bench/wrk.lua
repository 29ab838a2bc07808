-- Only done() is defined: no Lua runs per request, so the client costs the same as plain wrk.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n@@{"requests":%d,"bytes":%d,"wall_us":%d,"mean_us":%d,"p50_us":%d,"p99_us":%d,' ..
    '"non_2xx":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    latency.mean, latency:percentile(50), latency:percentile(99),
    e.status, e.connect, e.read, e.write, e.timeout))
end
