// Package schedulertest holds what schedulers promise, as tests.
//
// Core is for all schedulers, Leased for those that hand jobs to workers
// outside, Remote for the same through HTTP, and Durable for those that keep
// their jobs in a directory. All but the rounds of killed processes run in the
// fake time of testing/synctest, so that leases and backoffs of hours cost
// nothing and nothing depends on how busy the machine is.
//
//	func TestMain(m *testing.M)     { schedulertest.Main(m.Run, open) }
//	func TestCore(t *testing.T)     { schedulertest.Core(t, …) }
//	func TestLeased(t *testing.T)   { schedulertest.Leased(t, open) }
//	func TestDurable(t *testing.T)  { schedulertest.Durable(t, open) }
//
// Core: whether Submit returns at once or when the jobs have ended makes no
// difference to it, and what only some can do it asks of those who can.
//
//	promise                                                         subtest
//	a queue hands out one job at a time, in the order submitted     order
//	a job that waits for a dependency holds up nobody               order/dependency
//	a job in backoff keeps its place and holds its queue            order/backoff
//	queues run in parallel                                          parallel
//	every end: succeeded, failed, cancelled, expired                ends
//	a failed job ends its dependents at once, with the cause named  ends/dependents
//	a dependent goes on after an end that it accepts                ends/accept
//	attempts, tokens and backoff grow                               retry
//	a backoff is lengthened at random, never shortened              retry/jitter
//	an error that is final ends the job                             retry/final
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
//	what a scheduler takes, somebody can bring to an end            optional
//	any mixture of these agrees with a naive model                  model
//
// Leased:
//
//	a lease says what is to be done, for whom, and until when       lease
//	of a queue only one job is out, whoever asks how often          lease/one
//	workers outside get what is theirs, the manager's do the rest   lease/lanes, lease/actions
//	a worker, a queue or the scheduler says how long it may be      lease/length
//	who has no lease changes nothing and is told so, by every verb  lease/stale
//	nor does who knows the token, and has not taken the lease       lease/identity, lease/in-process
//	an answer that was lost can be asked for again                  lease/repeat
//	of many completions each stands alone                           lease/each-alone
//	a heartbeat extends the lease and keeps the progress            heartbeat
//	a silent worker's job comes again at its place, counts grow     expiry
//	and fails or is parked when that happens too often              expiry/too-often
//	who works on a cancelled job is told, or loses it               cancel/worker, cancel/silent
//	a job that is given back comes at once and has not failed       hand-back
//	so do those that run here when the workers stop                 hand-back/stop
//	attempts end with their timeout, are retried, are listed        attempt/…
//	urgent jobs and those that they supersede, in workers' queues   urgent/worker
//	only one Run at a time                                          run/once
//	who waits gets what becomes ready, at that moment               wait/nothing, wait/woken
//	who has gone gets nothing, and takes nothing along              wait/gone
//	a job wakes one that can have it, who has waited longest        wait/only-whom-it-concerns, wait/fair
//	a job that nobody began in time expires                         wait/expires
//	a parked job leaves its place, its dependents wait naming it    park
//	it fails in the end                                             park/for
//	or is retried at the head, skipped, or done by hand             park/retry, park/skip, park/done, park/refused
//	a retry brings back what ended for it, and nothing else         retry/with-dependents
//	into the queue where others stand by now                        retry/same-queue
//	a paused queue hands out nothing and counts toward no timeout   queue/pause, queue/configured, queue/paused-time
//	one that is drained takes nothing                               queue/drain
//	a queue's rate is kept                                          queue/rate
//	queues and the whole tell how they stand                        queue/status, stats
//	no more jobs run than a limit has slots, within and outside     limit/slots, limit/in-process, limit/host
//	an unknown limit is refused                                     limit/unknown
//	however an attempt ends, its slots are free                     limit/given-back
//	several are taken together, and hold up no other queue          limit/together, limit/no-hold-up
//	a slot that its first does not want any more goes to the next   limit/not-wanted
//	a limit's rate is kept                                          limit/rate
//	limits taken later never deadlock and cost no time              limit/take, limit/swap, limit/take-ends
//	limits tell who holds them                                      limit/shown
//	and are no part of what an idempotency key is compared with     limit/same-content
//	a package is built step by step, checked at each                package/steps, package/refused
//	enqueued as a whole, once; it expires, and can be cancelled     package/twice, package/expires, package/cancel, package/whole
//	who watches is told everything in its order, or that it is not  watch, watch/too-late
//	who follows a log is woken by each line, and by the end         watch/log
//	too much is refused, all of it                                  too-many
//	what has ended is forgotten by age and count, nothing else      history
//	mistakes of earlier systems, by name                            prevented/…
//	any mixture of these is what a naive model allows               machine
//
// Remote runs the leases, the waits and what is prevented through the caller's
// server and client, and beside:
//
//	an answer that gets lost costs nothing                          http/answer-of-complete-lost, http/answer-of-next-lost
//	a worker that vanishes gets nothing, and loses what it has      http/worker-vanishes-…
//	half a request changes nothing                                  http/request-cut-off
//	many jobs in one call, and any content                          http/many, http/odd-content
//
// Durable, each after Close and as found after the process was killed:
//
//	what was acknowledged is there, every field of it, in order     jobs, order, ends, log
//	dependencies, packages being built, queues, keys, parked jobs,  dependencies, packages, queues, keys, parked, backoff,
//	backoffs and cancellations too                                  cancel
//	epoch, tokens and attempts grow                                 tokens
//	what ran in the process comes at once                           lease/in-process
//	a lease outside begins anew at full length, or is over          lease/outside, lease/unrecorded
//	with its slots, for who took it alone                           lease/limits, lease/identity
//	a completion can be repeated to the store opened again          complete/repeat
//	what expired meanwhile has expired                              expires-meanwhile
//	a command runs its own jobs and no others                       run/submitted
//	what was pruned stays pruned                                    history-pruned
//	the state machine, opened again at any moment                   machine-reopened
//	a store is opened once, and the holder is named                 lock
//	what many do at once to the same jobs can be opened again       storm
//	many jobs, over many snapshots                                  many
//	flipped bits and cut files are refused, or harmless             damage
//	a full disk refuses and recovers                                full-disk
//	500 kills: nothing acknowledged is lost, no half package, each  kill
//	queue in order and without overlap, every job ends, again only
//	with a higher attempt
//	the same after 50 cuts of the power                             power-cut
//
// Moved asks of a copy what Durable asks of a store that is opened again, and beside:
//
//	tokens rise above those of source and target                    tokens-rise
//	a target that holds something refuses, and keeps it             not-empty
//	a copy that is there is known again                             again
//	one that was broken off has written nothing, and is made anew   interrupted
//	what is no copy is refused                                      not-of-ours
//	the source is as it was                                         from-as-it-was
//	jobs that were handed over begin in one of the stores only      away
//
// # Why
//
// The model of the state machine does not predict what a scheduler does, it says
// whether that was allowed: which of several waiting jobs gets a slot first is
// nobody's promise, that none waits without a reason is.
package schedulertest
