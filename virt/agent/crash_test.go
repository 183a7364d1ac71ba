package agent

const crashEnv = "VAGOTH_TEST_AGENT_CHILD"

func crashChild(string) {}
