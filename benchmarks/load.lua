-- Unique bodies in the documented shape, as wrk sends them. TOKEN comes from the environment.
local token = os.getenv("TOKEN")
local path = os.getenv("TARGET_PATH") or "/webio"
local counter = tonumber(os.getenv("START") or "1")
local headers = { ["content-type"] = "application/json", ["x-webio-token"] = token }
local template = '{"type": "inboundMessage", "conversationId": "%d", "communicationActionId": "%d", ' ..
  '"outboundChannelAddress": "447717472695", "inboundChannelAddress": "WhatsApp QA Test", ' ..
  '"customerUID": "", "body": "No I don\'t", "dateCreated": "2026-01-28 %02d:%02d:%02d.%03d"}'

request = function()
  counter = counter + 1
  local ms = counter % 86400000
  local body = string.format(template, 97847 + counter % 5000, counter, ms / 3600000 % 24, ms / 60000 % 60,
    ms / 1000 % 60, ms % 1000)
  return wrk.format("POST", path, headers, body)
end

done = function(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format('{"requests": %d, "seconds": %.3f, "failed": %d, "not_2xx": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors, summary.errors.status,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
