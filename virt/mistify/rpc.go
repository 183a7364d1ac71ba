package mistify

// RPCPath is where a sub-agent is asked, unless its service has another path.
const RPCPath = "/_mistify_RPC_"
