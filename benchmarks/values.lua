-- Custom value requests, each for another of CUSTOMERS customers. TOKEN comes from the environment.
local customers = tonumber(os.getenv("CUSTOMERS") or "1000")
local headers = { ["x-webio-token"] = os.getenv("TOKEN") }
local counter = 0

request = function()
  counter = counter + 1
  return wrk.format("GET", "/webio?customerUID=" .. (100000 + counter % customers) ..
    "&outboundChannelAddress=44777777777&param1=balance&param2=ID", headers)
end

done = function(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format('{"requests": %d, "seconds": %.3f, "failed": %d, "not_2xx": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors, summary.errors.status,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
