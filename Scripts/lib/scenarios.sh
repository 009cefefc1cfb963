# The probe's scenarios (Tests/forkguard-probe), and which of them run where.

scenarios=(methods discovery-race shared-memory fork-fails quiet exit sandbox survivor torn chain woken parked-stream start
    foreign foreign-control foreign-own foreign-torn foreign-wrong foreign-late condition condition-control
    unknown-survivor early-handler cancelled carried-wake bystanders owed-fork first-use-cancelled first-thread stubbed
    foreign-again descriptors descriptors-quiet descriptors-denied descriptors-odd)
# musl's fork() takes the locks of its streams after the handlers, and holds a lock of its own from before the prepare handlers until after the others: a
# fork inside a hook waits for itself there, and a thread that forks while another does waits where ForkGuard cannot see it (README, "What it cannot do"). Nor does a child that was made
# beside another's fork ever fork.
not_on_musl=(two-forkers hook-fork foreign-chain foreign-let-go foreign-stream foreign-both-hold both-hold borrower handler-fork slot-again)
# Have handlers that are registered before the library's; a shared library's come first.
only_static=(child-phases signals cancelled-alone without-turn unknown-breach hook-streams)
# Each ends in a trap, with a line that says why.
traps=(lock-twice unlock-free unlock-other condition-unlocked no-memory)
