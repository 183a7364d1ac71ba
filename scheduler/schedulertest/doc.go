// Package schedulertest holds what every scheduler promises, as tests.
//
// Core is for all schedulers. It runs in the fake time of testing/synctest, so
// that backoffs and timeouts of hours cost nothing and nothing depends on how
// busy the machine is. Whether Submit returns at once or when the jobs have
// ended makes no difference to it.
//
//	promise                                                        subtest
//	a queue hands out one job at a time, in the order submitted     order
//	a job that waits for a dependency holds up nobody               order/dependency
//	a job in backoff keeps its place and holds its queue            order/backoff
//	queues run in parallel                                          parallel
//	every end: succeeded, failed, cancelled, expired                ends
//	a failed job ends its dependents at once, with the cause named  ends/dependents
//	a dependent goes on after an end that it accepts                ends/accept
//	attempts, tokens and backoff grow                               retry
//	an attempt ends with its timeout; one that does not is overdue  timeout
//	urgent jobs overtake what waits, never what runs                urgent
//	and cancel what lost its sense, unless told not to              urgent/supersede
//	what cannot work is refused when submitted, all of it or none   refused
//	a job that would wait for its own queue is refused              refused/own-queue
//	an idempotency key gives the same job, or a conflict            idempotency
//	a panic fails its job alone                                     panic
//	progress and log lines are kept, trail and token handed on      told
//	jobs can be listed, filtered and waited for                     listed
//	a cancelled job ends, whether it waits or runs                  cancel
//	Close ends what runs, waits for it and refuses what comes       close
//	any mixture of these agrees with a naive model                  model
package schedulertest
