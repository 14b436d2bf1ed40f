-- The calls of the handle that the filter makes for a request whose token it has seen, and nothing else.
function envoy_on_request(handle)
  local headers = handle:headers()
  headers:get("microservice-a")
  headers:get("microservice-b")
  headers:get("authorization")
  handle:timestamp()
  headers:replace("microservice-a", "PR-1")
  headers:replace("microservice-b", "PR-2")
  handle:clearRouteCache()
end
