-- wrk script: posts texts, cycling through a file of them, and prints one JSON line at the end.
-- Arguments: the file, one text a line, and how many texts a request has.

local bodies = {}
local next_body = 0

local function quote(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function init(args)
  local group = {}
  for line in io.lines(args[1]) do
    group[#group + 1] = quote(line)
    if #group >= tonumber(args[2]) then
      bodies[#bodies + 1] = '{"inputs":[' .. table.concat(group, ",") .. "]}"
      group = {}
    end
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer tc_test_dev"
end

function request()
  next_body = next_body % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[next_body])
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"p50":%f,"p90":%f,"p99":%f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
