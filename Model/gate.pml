/*
 * The gate, in the steps that the code takes. Rules are cited by their number in rules.md.
 *
 * One source, many configurations: -DCONFIG_x picks the threads, the locks and what each thread does;
 * -DMUTANT_x takes one rule (or a part of one) away. Scripts/model runs the configurations, Scripts/mutants the mutants.
 *
 * Threads 0 .. N-1 are those of the parent. Thread N is the thread that the child makes, N+1 the one that the child's
 * child makes. Thread t has the serial t+1; 0 is nobody. A child needs no memory of its own: when a fork is made the
 * model goes on either as the parent or as the child, and as the child all other threads are gone, at whatever
 * statement they were, with the memory as they left it.
 *
 * What is one step: a load, a store or a compare-and-swap. Where steps are joined (atomic, d_step) a comment says why
 * nobody could have seen the difference. A step on local variables or on ghosts (variables that only assertions read)
 * may always be joined to its neighbour.
 */

/* ------------------------------------------------------------------------------------------------ configurations */

#define LOCK(l)   (16 + l)
#define UNLOCK(l) (32 + l)
#define TRY(l)    (48 + l)   /* like LOCK, but gives up where LOCK would sleep; the UNLOCK is then skipped */
#define FTAKE(f)  (96 + f)   /* a registered foreign lock, of several: it knows no gate, and the thread that sleeps for it leaves no note */
#define FGIVE(f)  (112 + f)
#define DROP(l)   (64 + l)   /* the thread will not use this lock again; the last one frees it */
#define TURN      80         /* take the turn; what stands between TURN and GO is a prepare hook */
#define GO        81         /* fork() */
#define GUARD     82         /* forkguard_fork() */
#define FLOCK     83         /* a mutex that knows no gate: flockfile, or anything that one thread can wait for */
#define FUNLOCK   84
#define EXIT      85         /* the thread ends, whatever it holds */
#define AWAIT     86         /* with lock A: waits on the condition until there is something, and takes it */
#define POST      87         /* with lock A: there is one thing more */
#define SIGNAL    88         /* the condition, one waiter; with lock A or without */
#define BROADCAST 89         /* all waiters */
#define BARE      90         /* a fork that runs no handlers: _Fork(), a bare system call */
#define A 0
#define B 1
#define C 2
#define D 3
#define SEQ(k, a, b, c, d, e, f, g, h) \
    (k==0 -> a : (k==1 -> b : (k==2 -> c : (k==3 -> d : (k==4 -> e : (k==5 -> f : (k==6 -> g : (k==7 -> h : 0))))))))
/* The child's own thread takes every lock, one after the other. */
#define TAKE_ALL(k) SEQ(k, LOCK(A), UNLOCK(A), (M>1 -> LOCK(B) : 0), UNLOCK(B), (M>2 -> LOCK(C) : 0), UNLOCK(C), (M>3 -> LOCK(D) : 0), UNLOCK(D))

#define TAKE_FOREIGN(k) SEQ(k, FTAKE(0), FGIVE(0), FTAKE(1), FGIVE(1), LOCK(A), UNLOCK(A), 0,0)

#if defined(CONFIG_OPPOSITE)      /* a plain fork beside two threads that nest two locks in opposite order */
#   define N 3
#   define M 2
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, LOCK(A), UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), LOCK(B), UNLOCK(B), UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), TRY(A), UNLOCK(A), UNLOCK(B), LOCK(A), UNLOCK(A), 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_TURNS)       /* three threads fork at once, two while they hold, one in the other order */
#   define N 3
#   define M 2
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(B), TURN, GO, LOCK(A), UNLOCK(A), UNLOCK(B), 0,0) : \
                         (t==2 -> SEQ(k, TURN, GO, LOCK(A), TRY(B), UNLOCK(B), UNLOCK(A), 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_CHAIN)       /* a chain over three locks that ends at the forker's */
#   define N 3
#   define M 3
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), LOCK(C), UNLOCK(C), 0,0) : \
                         (t==1 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(C), LOCK(B), UNLOCK(B), UNLOCK(C), 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_CHAIN_TURN)  /* a chain that ends at a lock of a thread that waits for its turn */
#   define N 3
#   define M 2
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, LOCK(B), UNLOCK(B), 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), TURN, GO, 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_CHAIN_FOUR)  /* four threads: a chain of three, each of which holds something */
#   define N 4
#   define M 4
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(C), LOCK(B), UNLOCK(B), UNLOCK(C), 0,0,0,0) : \
                         (t==3 -> SEQ(k, LOCK(D), LOCK(C), UNLOCK(C), UNLOCK(D), 0,0,0,0) : TAKE_ALL(k)))))
#elif defined(CONFIG_PASSES)      /* a chain that is never true as a whole, but looks so to one pass; its end is scanned last */
#   define N 3
#   define M 4
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(C), LOCK(B), UNLOCK(B), UNLOCK(C), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(D), LOCK(B), UNLOCK(B), LOCK(A), UNLOCK(A), UNLOCK(D), 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_FREE)        /* locks are freed by whoever used them last */
#   define N 3
#   define M 3
#   define NO_CHILD
#   define FREEING
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), TURN, GO, 0,0) : \
                         (t==1 -> SEQ(k, LOCK(B), LOCK(C), UNLOCK(C), DROP(C), UNLOCK(B), 0,0,0) : \
                                  SEQ(k, LOCK(A), LOCK(C), UNLOCK(C), DROP(C), UNLOCK(A), 0,0,0)))
#elif defined(CONFIG_WINDOW)      /* a thread inside waits for one that is parked */
#   define N 3
#   define M 2
#   define WINDOWS 2
#   define FAIR_WINDOWS
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, LOCK(B), UNLOCK(B), 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), FLOCK, FUNLOCK, UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, FLOCK, LOCK(B), UNLOCK(B), LOCK(B), UNLOCK(B), FUNLOCK, 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_WINDOW_WEAK) /* windows of any length, held in a store buffer */
#   define N 3
#   define M 2
#   define WINDOWS 1
#   define WEAK
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, 0,0,0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), UNLOCK(A), LOCK(B), UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_WEAK)        /* held in a store buffer; forks while holding, a chain, a second forker */
#   define N 3
#   define M 2
#   define WEAK
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), UNLOCK(B), TURN, GO, 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_DEADLINE)    /* a thread inside waits for the forker: nothing but the deadline helps */
#   define N 3
#   define M 2
#   define WINDOWS 1
#   define DEADLINE
#   define PROGRAM(t, k) (t==0 -> SEQ(k, FLOCK, TURN, GO, FUNLOCK, LOCK(A), UNLOCK(A), 0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), FLOCK, FUNLOCK, UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), TURN, GO, 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_REFUSE)      /* the same with a fork that refuses, and another that waits for its turn */
#   define N 3
#   define M 2
#   define DEADLINE
#   define PROGRAM(t, k) (t==0 -> SEQ(k, FLOCK, TURN, GUARD, FUNLOCK, TURN, GUARD, 0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), FLOCK, FUNLOCK, UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), TURN, GO, LOCK(A), UNLOCK(A), UNLOCK(B), 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_BREACH)      /* libc's fork waits for a mutex of a thread that we parked; patience ends when it must */
#   define N 3
#   define M 2
#   define LIBC_LOCK
#   define PATIENCE_OVER FORKER_BLOCKED
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(B), TURN, GO, UNLOCK(B), 0,0,0,0) : \
                         (t==1 -> SEQ(k, FLOCK, LOCK(A), UNLOCK(A), FUNLOCK, TURN, GO, 0,0) : \
                         (t==2 -> SEQ(k, LOCK(A), UNLOCK(A), TURN, GO, 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_BREACH_ANY)  /* patience may end at any time after the end of prepare */
#   define N 3
#   define M 2
#   define LIBC_LOCK
#   define PATIENCE_OVER true
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, LOCK(A), UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, FLOCK, LOCK(A), LOCK(B), UNLOCK(B), UNLOCK(A), FUNLOCK, 0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), UNLOCK(B), TURN, GO, 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_REDRAIN)     /* forkguard_fork drains again: another library's handler waited for a parked thread */
#   define N 3
#   define M 2
#   define HANDLER_LOCK
#   define WEAK
#   define PATIENCE_OVER (!again)
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GUARD, LOCK(A), UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, FLOCK, LOCK(A), UNLOCK(A), FUNLOCK, 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), TURN, GO, UNLOCK(B), 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_EXIT)        /* a thread ends while it holds; another forks after it */
#   define N 3
#   define M 2
#   define EXITING
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, LOCK(B), TURN, GO, UNLOCK(B), 0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), LOCK(B), UNLOCK(B), EXIT, 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), UNLOCK(B), TURN, GO, 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_LEND)        /* a hook wants a lock whose holder waits for its turn */
#   define N 3
#   define M 2
#   define LENDING
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(B), TURN, LOCK(A), UNLOCK(A), GO, UNLOCK(B), 0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), UNLOCK(B), TURN, GO, 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_LEND_CHAIN)  /* the same through a third thread */
#   define N 3
#   define M 2
#   define LENDING
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, LOCK(A), UNLOCK(A), GO, 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), LOCK(B), UNLOCK(B), UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), TURN, GO, UNLOCK(B), 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_LEND_EARLY)  /* the borrower's own hook unlocks what the lender waits for */
#   define N 2
#   define M 2
#   define LENDING
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(B), TURN, LOCK(A), UNLOCK(A), GO, UNLOCK(B), 0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), TURN, UNLOCK(A), GO, 0,0,0,0) : TAKE_ALL(k)))
#elif defined(CONFIG_FOREIGN)     /* a registered foreign lock is tried while the gate is closed */
#   define N 3
#   define M 2
#   define FOREIGN
#   define WINDOWS 2
#   define FAIR_WINDOWS
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(B), TURN, GO, UNLOCK(B), FLOCK, FUNLOCK, 0,0) : \
                         (t==1 -> SEQ(k, FLOCK, LOCK(A), UNLOCK(A), FUNLOCK, 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(A), UNLOCK(A), FLOCK, FUNLOCK, LOCK(A), UNLOCK(A), 0,0) : \
                                  SEQ(k, FLOCK, FUNLOCK, LOCK(A), UNLOCK(A), LOCK(B), UNLOCK(B), 0,0))))
#elif defined(CONFIG_FOREIGN_CHAIN)  /* two foreign locks; their holders want a lock of the forker's, or are parked before they want it */
#   define N 3
#   define M 1
#   define FOREIGNS 2
#   define WINDOWS 3
#   define FAIR_WINDOWS
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), FTAKE(0), FTAKE(1), FGIVE(1), FGIVE(0)) : \
                         (t==1 -> SEQ(k, FTAKE(0), LOCK(A), UNLOCK(A), FGIVE(0), FTAKE(1), FGIVE(1), 0,0) : \
                         (t==2 -> SEQ(k, FTAKE(1), LOCK(A), UNLOCK(A), FGIVE(1), 0,0,0,0) : TAKE_FOREIGN(k))))
#elif defined(CONFIG_FOREIGN_OWN)    /* the forker has one; the other's holder waits for its turn, or lets go before it */
#   define N 3
#   define M 1
#   define FOREIGNS 2
#   define WINDOWS 2
#   define FAIR_WINDOWS
#   define PROGRAM(t, k) (t==0 -> SEQ(k, FTAKE(0), TURN, GO, FGIVE(0), 0,0,0,0) : \
                         (t==1 -> SEQ(k, FTAKE(1), TURN, GO, FGIVE(1), 0,0,0,0) : \
                         (t==2 -> SEQ(k, FTAKE(1), FGIVE(1), TURN, GO, LOCK(A), UNLOCK(A), 0,0) : TAKE_FOREIGN(k))))
#elif defined(CONFIG_FOREIGN_GUARD)  /* forkguard_fork lets go of them and takes them again; by then one's holder may wait for its turn */
#   define N 3
#   define M 1
#   define FOREIGNS 2
#   define WINDOWS 3
#   define FAIR_WINDOWS
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GUARD, LOCK(A), UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, FTAKE(0), LOCK(A), UNLOCK(A), FGIVE(0), 0,0,0,0) : \
                         (t==2 -> SEQ(k, FTAKE(1), FGIVE(1), FTAKE(1), TURN, GO, FGIVE(1), 0,0) : TAKE_FOREIGN(k))))
#elif defined(CONFIG_FOREIGN_LATE)   /* one's holder waits for the one that the forker has, which nobody can see: the deadline */
#   define N 3
#   define M 1
#   define FOREIGNS 2
#   define DEADLINE
#   define WINDOWS 1
#   define FAIR_WINDOWS
#   define PROGRAM(t, k) (t==0 -> SEQ(k, FTAKE(0), TURN, GO, FGIVE(0), LOCK(A), UNLOCK(A), TURN, GUARD) : \
                         (t==1 -> SEQ(k, FTAKE(1), FTAKE(0), LOCK(A), UNLOCK(A), FGIVE(0), FGIVE(1), 0,0) : \
                         (t==2 -> SEQ(k, LOCK(A), UNLOCK(A), FTAKE(1), FGIVE(1), 0,0,0,0) : TAKE_FOREIGN(k))))
#elif defined(CONFIG_GRANDCHILD)  /* the child forks again, from its survivor and from its own thread */
#   define N 2
#   define M 3
#   define DEPTH 2
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, TURN, GO, UNLOCK(A), LOCK(B), UNLOCK(B)) : \
                         (t==1 -> SEQ(k, LOCK(B), LOCK(C), LOCK(A), UNLOCK(A), UNLOCK(C), TURN, GO, UNLOCK(B)) : \
                         (t==2 -> SEQ(k, LOCK(B), TURN, GO, UNLOCK(B), LOCK(A), UNLOCK(A), 0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_ANY)         /* no program: one thread locks once at most and forks when it likes, two lock what they like, twice each */
#   define N 3
#   define M 2
#   define CLIENT
#   define FORKS 1
#   define BUDGET(t) (t==0 -> 1 : 2)
#   define MAY_FORK(t) (t == 0)
#   define PROGRAM(t, k) TAKE_ALL(k)
#elif defined(CONFIG_ANY_THREE)   /* the same with three locks; the third thread locks once */
#   define N 3
#   define M 3
#   define CLIENT
#   define FORKS 1
#   define BUDGET(t) (t==1 -> 2 : 1)
#   define MAY_FORK(t) (t == 0)
#   define PROGRAM(t, k) TAKE_ALL(k)
#elif defined(CONFIG_ANY_FORKS)   /* two forks, by two threads or by one, at any time, also while holding */
#   define N 3
#   define M 2
#   define CLIENT
#   define FORKS 2
#   define BUDGET(t) 1
#   define MAY_FORK(t) (t < 2)
#   define PROGRAM(t, k) TAKE_ALL(k)
#elif defined(CONFIG_WAKES)       /* a wake-up for a lock comes to a thread that parks; another one, inside, sleeps for the same lock */
#   define N 3
#   define M 2
#   define WAKES
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), UNLOCK(A), TURN, GO, LOCK(A), UNLOCK(A), 0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), UNLOCK(A), LOCK(B), UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_WAKES_CHAIN) /* sleepers in a chain that ends at the forker; the survivor's unlock in the child has nobody to wake */
#   define N 3
#   define M 2
#   define WAKES
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), LOCK(B), UNLOCK(B), 0,0) : \
                         (t==1 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), UNLOCK(B), LOCK(A), UNLOCK(A), 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_CONDITION)   /* signals without the lock and with it, to a thread that waits twice; a waiter in the child */
#   define N 3
#   define M 1
#   define WAKES
#   define CONDITION
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, LOCK(A), POST, SIGNAL, UNLOCK(A), 0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), AWAIT, AWAIT, UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(A), POST, UNLOCK(A), SIGNAL, 0,0,0,0) : \
                                  SEQ(k, LOCK(A), AWAIT, UNLOCK(A), 0,0,0,0,0))))
#elif defined(CONFIG_CONDITION_HELD)  /* two waiters; the forker has their lock over the fork, and wakes both; one gives up at any time */
#   define N 3
#   define M 1
#   define WAKES
#   define CONDITION
#   define GIVES_UP(t) (t == 2)
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, POST, POST, BROADCAST, UNLOCK(A), 0) : \
                         (t==1 -> SEQ(k, LOCK(A), AWAIT, UNLOCK(A), 0,0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(A), AWAIT, UNLOCK(A), 0,0,0,0,0) : \
                                  SEQ(k, LOCK(A), AWAIT, UNLOCK(A), 0,0,0,0,0))))
#elif defined(CONFIG_CONDITION_ONE)   /* two waiters, two signals by one thread: each wakes one of them, the debt of the second grows */
#   define N 3
#   define M 1
#   define WAKES
#   define CONDITION
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), POST, SIGNAL, POST, SIGNAL, UNLOCK(A), TURN, GO) : \
                         (t==1 -> SEQ(k, LOCK(A), AWAIT, UNLOCK(A), 0,0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(A), AWAIT, UNLOCK(A), 0,0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_CONDITION_INSIDE) /* the waiter is inside another section, and who would signal is parked: only a window helps */
#   define N 3
#   define M 2
#   define WAKES
#   define CONDITION
#   define WINDOWS 2
#   define FAIR_WINDOWS
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, LOCK(B), UNLOCK(B), LOCK(A), POST, SIGNAL, UNLOCK(A)) : \
                         (t==1 -> SEQ(k, LOCK(B), LOCK(A), AWAIT, UNLOCK(A), UNLOCK(B), 0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(A), POST, SIGNAL, UNLOCK(A), 0,0,0,0) : \
                                  SEQ(k, LOCK(A), AWAIT, UNLOCK(A), LOCK(B), UNLOCK(B), 0,0,0))))
#elif defined(CONFIG_WEAK_FENCED) /* WEAK where there is no membarrier: every thread fences for itself */
#   define N 3
#   define M 2
#   define WEAK
#   define FENCED
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), 0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), UNLOCK(B), TURN, GO, 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_WINDOW_FENCED) /* WINDOW_WEAK where there is no membarrier */
#   define N 3
#   define M 2
#   define WINDOWS 1
#   define WEAK
#   define FENCED
#   define PROGRAM(t, k) (t==0 -> SEQ(k, TURN, GO, 0,0,0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), UNLOCK(A), LOCK(B), UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_LATE)           /* a bare fork beside a thread that forks, wherever that is; three threads of the child discover */
#   define N 2
#   define M 2
#   define LATE
#   define DEPTH 2
#   define WINDOWS 1
#   define FAIR_WINDOWS
#   define PROGRAM(t, k) (t==0 -> SEQ(k, LOCK(A), BARE, LOCK(B), UNLOCK(B), UNLOCK(A), TURN, GO, 0) : \
                         (t==1 -> SEQ(k, LOCK(B), TURN, GO, UNLOCK(B), 0,0,0,0) : \
                         (t==2 -> SEQ(k, TURN, GUARD, LOCK(B), UNLOCK(B), 0,0,0,0) : \
                         (t==3 -> SEQ(k, LOCK(A), UNLOCK(A), 0,0,0,0,0,0) : TAKE_ALL(k)))))
#elif defined(CONFIG_LATE_WINDOW)    /* the same beside a scan with windows and a chain; the survivor holds nothing */
#   define N 3
#   define M 2
#   define LATE
#   define WINDOWS 1
#   define PROGRAM(t, k) (t==0 -> SEQ(k, BARE, LOCK(A), UNLOCK(A), 0,0,0,0,0) : \
                         (t==1 -> SEQ(k, LOCK(A), TURN, GO, UNLOCK(A), 0,0,0,0) : \
                         (t==2 -> SEQ(k, LOCK(B), LOCK(A), UNLOCK(A), UNLOCK(B), 0,0,0,0) : TAKE_ALL(k))))
#elif defined(CONFIG_BYPASSED)
#   define N 2
#   define M 2
#else
#   error "pick a configuration"
#endif

#ifndef DEPTH
#   define DEPTH 1                       /* generations of children */
#endif
#ifdef LATE
#   define TOTAL (N + DEPTH + 1)         /* the first child makes two threads */
#else
#   define TOTAL (N + DEPTH)
#endif
#ifndef WINDOWS
#   define WINDOWS 0
#endif
#ifdef MUTANT_R15
#   undef PATIENCE_OVER
#endif
#ifndef PATIENCE_OVER
#   define PATIENCE_OVER false
#endif

/* --------------------------------------------------------------------------------------------------------- memory */

#define OPEN   0
#define CLOSED 1                         /* being drained */
#define SEALED 2                         /* drained: from here on patience counts (R15) */
#define WIPED  3                         /* what the kernel leaves in a child whose handlers did not run (R20) */
#define FENCED_WORD 4                    /* open, the slow way: the survivor is not known (R20) */
#ifdef LATE
#   define OPEN_WORD (horizon == 0 || survivor != 0 -> OPEN : FENCED_WORD)
#else
#   define OPEN_WORD OPEN
#endif
#define SHUT (gate == CLOSED || gate == SEALED)

#define TURN_MARK   1                    /* waits for its turn */
#define CHAIN_MARK  2                    /* blocked on a lock of the forker's or a waiter's */
#define LATE_MARK   3                    /* outlasted the deadline */
#define BREACH_MARK 4                    /* entered a sealed gate */
#define BYPASS_MARK 5                    /* was inside when it vanished in a fork that nobody prepared */

#define SLOTS 5                          /* of each array; TOTAL of them are used */
#define LOCKS 4                          /* likewise; M of them are used */

byte gate;
byte word[LOCKS];                        /* 0 or the serial of the holder */
byte turn;                               /* serial of the thread whose turn it is */
byte horizon, survivor;
bit  event;                              /* the word that the forker sleeps on, as "changed since the scan began" */

/* the slots */
byte held[SLOTS];
byte note[SLOTS];                        /* 0, or the lock + 1 */
bit  waiting[SLOTS];                     /* for its turn */
bit  pin[SLOTS];
byte mark[SLOTS];
#ifdef LENDING
byte lender[SLOTS];                      /* serial of the thread that lent me the turn */
#endif
/* The sequence numbers, without numbers that could run over in the model: "has not changed since the forker's first
 * pass looked" is all that the second pass asks. Every writing and every clearing of a note resets it. */
bit same[SLOTS];

byte foreign;                            /* the mutex that knows no gate: serial of its holder */

#ifdef FOREIGNS
byte fword[FOREIGNS];                    /* the registered foreign locks: serial of the holder, which they tell */
byte fstate[FOREIGNS];                   /* what the forker made of each */
#   define TAKEN  1
#   define OWN    2                      /* it had it before */
#   define STUCK  3                      /* its holder cannot let go before this fork is over */
#   define MISSED 4                      /* its holder did not by the deadline */
byte f;                                  /* the forker's: which one is being tried */
byte fowner;
#endif

#ifdef LATE
byte discovery = 2;                      /* in the wiped page: 0 not begun, 1 under way, 2 done */
byte discoveries;                        /* a ghost, as is the next */
bit  fresh[SLOTS];                       /* it has just made itself known, and a forker may have passed it by */
#   define FRESH(t) fresh[t]
bit  had[LOCKS];                         /* the survivor had it when it was forked */
bit  lost[LOCKS];                        /* taken over from a survivor that nobody knew */
#   define UNKNOWN (survivor == 0 && horizon != 0 && SERIAL < horizon)
#endif

#ifndef LATE
#   define FRESH(t) false
#endif

#ifdef WAKES
/* What the kernel keeps: who sleeps on which word. It does not go into a child. */
#   define ON_CONDITION (LOCKS + 1)
byte sleeper[SLOTS];                     /* 0, the lock + 1, or ON_CONDITION */
bit  contended[LOCKS];                   /* the flag in the word: somebody sleeps on it */
#endif
#ifdef CONDITION
byte waiters, waiters_of;                /* how many, and of which generation */
bit  unsignalled[SLOTS];                 /* "the number of signals is still the one that I read"; so it never runs over */
byte owed[SLOTS];                        /* wake-ups that this thread owes to waiters until it unlocks */
byte things;                             /* what they wait for */
#   define ALL 3
#endif

/* ghosts, which only assertions read */
byte generation;                              /* generation */
bit  gone[SLOTS];                        /* this thread vanished in a fork */
byte leaving;                            /* how many of them have yet to notice; the child starts after that */
bit  broken[LOCKS];                      /* at the fork, somebody who vanished was inside */
byte want[SLOTS];                        /* the lock + 1 whose lock() has not returned */

#ifdef EXITING
bit  ended[SLOTS];                       /* the code sees it as: no slot has this serial */
#   define ENDED(t) ended[t]
#else
#   define ENDED(t) false
#endif
#ifdef FREEING
bit  freed[LOCKS];
byte drops[LOCKS];                       /* how many threads will not use it again */
#   define USABLE(l) !freed[l]
#else
#   define USABLE(l) true
#endif
#ifdef CLIENT
byte forks;
#endif
hidden byte x, y, z;                     /* scratch inside one step */

/* What only the forker uses. There is one (R9), so there is one set; all are 0 when no fork is on. */
byte slot;                               /* that the scan looks at */
byte cur, hops, lk, holder;              /* the walk: slot, length, lock + 1, serial */
#ifdef MUTANT_R12_WORDS
byte first[SLOTS];
#endif
bit  second, late, marked, again, inside;
byte windows;

#ifdef WEAK
/* A store to `held` goes to the thread's store buffer; `own` is what the thread itself reads. The buffer has one entry
 * and a later store replaces an earlier one (which allows more than first-in-first-out does). It reaches memory at any
 * time, at a system call or a read-modify-write of the wake-up word, and at the barrier. The compare-and-swap of the
 * lock's word is not taken to flush it, because on arm64 an acquire does not. */
byte own[SLOTS];
#   define PUT_HELD(t, v) own[t] = v
#   define FENCE(t)       held[t] = own[t]
#else
#   define own            held
#   define PUT_HELD(t, v) held[t] = v
#   define FENCE(t)       skip
#endif

#ifdef MUTANT_R18_SERIAL                  /* the child's thread gets a serial that was used before */
#   define SERIAL      (_pid == N -> 2 : _pid + 1)
#else
#   define SERIAL      (_pid + 1)
#endif
#define COUNT_IN       PUT_HELD(_pid, own[_pid] + 1)
#define COUNT_OUT      PUT_HELD(_pid, own[_pid] - 1)
#define WAKE_FORKER    d_step { event = 1; FENCE(_pid) }    /* one read-modify-write, and a system call */
#define OWNS(t)        (word[0] == t+1 || word[1] == t+1 || word[2] == t+1 || word[3] == t+1)
#ifdef FAIR_WINDOWS                       /* a window opens when nothing else helps, and is long enough */
#   define NOTHING_MOVES timeout
#else                                    /* a window opens and closes at any time */
#   define NOTHING_MOVES true
#endif
#define FORKER_BLOCKED (foreign != 0 && foreign != turn)
#define L              (op & 15)
#define IS(k)          ((op & 240) == k(0))
#ifdef LATE
#   define BORN        (generation == 0 -> N : N + 1 + generation)
#else
#   define BORN        (N + generation)  /* how many threads there have been; the next serial is one more */
#endif

/* R16 */
#if defined(MUTANT_R16_SURVIVOR)         /* a word is stale by its generation alone */
#   define STALE(w) (w != 0 && w < horizon)
#elif defined(MUTANT_R16_HORIZON)
#   define STALE(w) false
#else
#   define STALE(w) (w != 0 && w < horizon && w != survivor)
#endif
/* The same for slots: a slot whose serial is stale is no thread. */
#ifdef MUTANT_R16_SLOTS
#   define NO_THREAD(t) (t >= BORN)
#else
#   define NO_THREAD(t) (t >= BORN || STALE(t+1))
#endif

#ifndef CONFIG_BYPASSED

/* ------------------------------------------------------------------------------------------------------ assertions */

/* The fork itself. One step, although the kernel copies page by page: a thread that writes to a page already copied
 * faults and sleeps until the copy is done, so that what a thread's writes show in the child is always the beginning of
 * what it wrote, and nobody can have seen what is missing. README.md has the argument.
 *
 * z becomes the set of threads that cannot get on inside: they wait for their turn, or their lock() waits for a lock
 * of the forker's or of such a thread's. */
inline check_copy() {
    z = 0; x = 0;
    do
    :: x < TOTAL -> z = z | ((waiting[x] && !NO_THREAD(x)) << x); x++
    :: else -> break
    od;
    y = 0;
    do
    :: y < TOTAL ->
        x = 0;
        do
        :: x < TOTAL ->
            if
            :: want[x] != 0 && word[want[x]-1] != 0 && !NO_THREAD(x) ->
                if
                :: word[want[x]-1] == SERIAL || ((z >> (word[want[x]-1] - 1)) & 1) -> z = z | (1 << x)
                :: else
                fi
            :: else
            fi;
            x++
        :: else -> break
        od;
        y++
    :: else -> break
    od;
    x = 0;
    do
    :: x < TOTAL ->
        if
        :: x == _pid || NO_THREAD(x)
        :: else ->
            /* Who is marked as stuck is stuck, and holds something (R11, R12, R21). */
            assert((mark[x] != TURN_MARK && mark[x] != CHAIN_MARK) || (((z >> x) & 1) && OWNS(x)));
            /* Who holds something is marked, or has ended (R11, R14, R15, R19). */
            /* A survivor that only now makes itself known is still at the gate; what it had before is torn (R20). */
            assert(!OWNS(x) || mark[x] != 0 || ENDED(x) || FRESH(x));
            /* Only a fork whose deadline passed finds late ones. */
            assert(mark[x] != LATE_MARK || late);
            /* forkguard_fork makes no child in which anybody was inside (R14, R15). The mark of a breach before the second
             * drain may come after that drain wiped the marks, but then its thread is out again, or the drain waits for it. */
            assert(op != GUARD || ((mark[x] == 0 || mark[x] == BREACH_MARK) && (!OWNS(x) || FRESH(x))))
        fi;
        x++
    :: else -> break
    od;
#ifdef FOREIGNS
    x = 0;
    do
    :: x < FOREIGNS ->
        assert(fstate[x] != 0);
        assert((fstate[x] != TAKEN && fstate[x] != OWN) || fword[x] == SERIAL);
        /* Who is said to be stuck with a lock has it, and is. */
        assert(fstate[x] != STUCK || (fword[x] != 0 && ((z >> (fword[x] - 1)) & 1)));
        assert(fstate[x] != MISSED || late);
        assert(op != GUARD || fstate[x] == TAKEN || fstate[x] == OWN);
        x++
    :: else -> break
    od;
#endif
    x = 0; y = 0; z = 0
}

#ifdef FOREIGNS
inline let_go() {
    y = 0;
    do
    :: y < FOREIGNS ->
        if
        :: fstate[y] == TAKEN -> fword[y] = 0
        :: else
        fi;
        fstate[y] = 0;
        y++
    :: else -> break
    od;
    y = 0; f = 0; fowner = 0
}
#endif

/* The child's C phase. One step, because nobody else exists yet. Nothing of the vanished threads is tidied up. */
inline become_child() {
    x = 0;
    do
    :: x < BORN && x == _pid -> x++
    :: x < BORN && x != _pid ->
        leaving = leaving + !gone[x];
        gone[x] = 1;
        want[x] = 0;                     /* a ghost */
#ifdef CLIENT
        held[x] = 0; note[x] = 0; same[x] = 0;       /* fewer states; the other configurations leave them as they are */
#endif
        x++
    :: else -> break
    od;
    x = 0;
    do
    :: x < M -> broken[x] = (word[x] != 0 && word[x] != SERIAL); x++
    :: else -> break
    od;
    x = 0;
    horizon = BORN + 1;                  /* R16 */
    survivor = SERIAL;
    generation++;
#if defined(WAKES) && !defined(MUTANT_R25_QUEUE)
    x = 0;
    do
    :: x < TOTAL -> sleeper[x] = 0; x++
    :: else -> break
    od;
    x = 0;
#endif
#ifdef LENDING
    lender[_pid] = 0;                    /* a lender that vanished gets nothing back */
#endif
#if defined(FOREIGN) || defined(LIBC_LOCK) || defined(HANDLER_LOCK)
    foreign = 0                          /* reinitialised: by us, by libc, by the other library */
#endif
#ifdef FOREIGNS
    y = 0;
    do
    :: y < FOREIGNS ->
        /* Told torn if somebody who vanished had it. */
        assert(fword[y] == 0 || fword[y] == SERIAL || fstate[y] == STUCK || fstate[y] == MISSED);
        if
#ifndef MUTANT_R26_OWN
        :: fstate[y] == OWN
#endif
#ifdef MUTANT_R26_CHILD              /* unlocks what it took, and makes nothing anew */
        :: fstate[y] == STUCK || fstate[y] == MISSED
#endif
        :: else -> fword[y] = 0          /* made anew */
        fi;
        fstate[y] = 0;
        y++
    :: else -> break
    od;
    y = 0; f = 0; fowner = 0
#endif
}

inline forget_fork() {
    slot = 0; cur = 0; hops = 0; lk = 0; holder = 0; second = 0; late = 0; marked = 0; again = 0; inside = 0; windows = 0; event = 0
}

#ifdef LATE
/* R20. As become_child, but that nothing runs: the kernel wipes the page, and that is all. */
inline become_bypassed() {
    x = 0;
    do
    :: x < BORN && x == _pid -> x++
    :: x < BORN && x != _pid ->
        leaving = leaving + !gone[x];
        gone[x] = 1; want[x] = 0;
        x++
    :: else -> break
    od;
    x = 0;
    do
    :: x < M -> broken[x] = (word[x] != 0 && word[x] != SERIAL); had[x] = (word[x] == SERIAL); x++
    :: else -> break
    od;
    x = 0;
    generation++;
    gate = WIPED;
    discovery = 0
}

inline discover() {
    do
    :: discovery == 2 -> break
#ifdef MUTANT_R20
    :: discovery != 2 ->
#else
    :: atomic { discovery == 0 -> discovery = 1 } ->         /* a compare-and-swap */
#endif
        atomic { discoveries++; assert(discoveries == 1) };
#ifndef MUTANT_R20_TURN
        turn = 0;                        /* whoever had the turn is gone */
#endif
        atomic {
            forget_fork();
#ifndef MUTANT_R20_MARK
            x = 0;
            do
            :: x < N -> mark[x] = (held[x] != 0 && x != _pid -> BYPASS_MARK : mark[x]); x++
            :: else -> break
            od;
            x = 0
#endif
        };
        horizon = N + 1;
        if                               /* who had a slot before the fork is the survivor */
        :: _pid < N -> survivor = SERIAL; pin[_pid] = 0; mark[_pid] = 0
        :: _pid >= N
        fi;
#ifdef MUTANT_R20_OPEN
        gate = OPEN;
#else
        gate = OPEN_WORD;
#endif
        discovery = 2;
        break
    :: discovery == 1 -> discovery == 2
    od
}

inline adopt() {
    if
    :: UNKNOWN ->
        pin[_pid] = 0;
        mark[_pid] = 0;
        survivor = SERIAL;
        d_step {
            if
            :: gate == FENCED_WORD -> gate = OPEN_WORD
            :: else
            fi
        }
    :: !UNKNOWN
    fi
}
#endif

/* --------------------------------------------------------------------------------------------------------- threads */

/* R9: waiters that are inside go first. */
#define WAITS(t)     (waiting[t] && !NO_THREAD(t))
#define NONE_INSIDE  (!(WAITS(0) && held[0]) && !(WAITS(1) && held[1]) && !(WAITS(2) && held[2]) && !(WAITS(3) && held[3]) && !(WAITS(4) && held[4]))
#define HAND_TO(t)   WAITS(t) && (held[t] || NONE_INSIDE) -> waiting[t] = 0; turn = t + 1

#ifdef FOREIGNS
#   define WANTED(t)      word[note[t] - 1]
#   define LEADS_TO_ME(t) (waiting[t] || (note[t] != 0 && WANTED(t) != 0 && (WANTED(t) == SERIAL || waiting[WANTED(t) - 1])))
#endif

/* R22: does the lock that I wait for lead, through one other thread at most, to one that waits for its turn? */
#define HOLDER(l)    (word[l] - 1)
#define LEADS(l)     (word[l] != 0 && word[l] != SERIAL && (WAITS(HOLDER(l)) || (note[HOLDER(l)] != 0 && word[note[HOLDER(l)]-1] != 0 && WAITS(HOLDER(note[HOLDER(l)]-1)))))

#if defined(CONDITION)
#   define LOCALS_GONE seen = 0; slept = 0; wakes = 0; awaits = 0;
#elif defined(WAKES)
#   define LOCALS_GONE seen = 0; slept = 0; wakes = 0;
#else
#   define LOCALS_GONE
#endif
#ifdef WAKES
/* futex(2): one of those that sleep there, whichever; nobody if there is none. */
#define SLEEPS(t, w) sleeper[t] == w -> sleeper[t] = 0
inline wake_one(w) {
    if
    :: SLEEPS(0, w)
    :: SLEEPS(1, w)
    :: SLEEPS(2, w)
    :: SLEEPS(3, w)
    :: SLEEPS(4, w)
    :: else
    fi
}
#endif
#ifdef CONDITION
inline wake_waiters(n) {
    x = n;
    do
    :: x == 0 -> break
    :: x != 0 -> x--; wake_one(ON_CONDITION)
    od
}
#endif

active [TOTAL] proctype Thread() {
    byte pc, op;
    bit  trylost, torn;
#ifdef WAKES
    byte seen;                           /* the word that it cannot have */
    bit  slept, wakes;
#endif
#ifdef CONDITION
    bit  awaits;
#endif
    {
    if
    :: _pid < N
    :: _pid >= N ->
end_unborn:
#ifdef LATE
        (generation == (_pid < N + 2 -> 1 : _pid - N) && leaving == 0);
        discover()                       /* before it has a slot, and with it a serial */
#else
        (generation == _pid - N + 1 && leaving == 0)         /* the child makes a thread */
#endif
#ifdef MUTANT_R18_SLOT                    /* in a slot that was marked */
        ; mark[1] = 0
#endif
    fi;

next:
    /* Fetching the next operation is local, so it is joined to that operation's first step. */
    atomic {
#ifdef CLIENT
        if
        :: _pid >= N -> op = PROGRAM(_pid, pc); pc++
        :: _pid < N && turn == SERIAL -> op = GO
        :: _pid < N && turn != SERIAL ->
            if
            :: pc < BUDGET(_pid) && !OWNS(_pid) -> op = LOCK(A); pc++
            :: pc < BUDGET(_pid) && word[B] != SERIAL && word[C] != SERIAL -> op = LOCK(B); pc++
            :: pc < BUDGET(_pid) && word[C] != SERIAL && M > 2 -> op = LOCK(C); pc++
            :: pc < BUDGET(_pid) && word[A] != SERIAL && OWNS(_pid) -> op = TRY(A); pc++
            :: word[A] == SERIAL -> op = UNLOCK(A)
            :: word[B] == SERIAL -> op = UNLOCK(B)
            :: word[C] == SERIAL -> op = UNLOCK(C)
            :: forks < FORKS && MAY_FORK(_pid) -> forks++; op = TURN
            :: !OWNS(_pid) && !(forks < FORKS && _pid == 0) -> op = 0
            fi
        fi;
#else
        op = PROGRAM(_pid, pc); pc++;
#endif
        if
        :: op == 0 -> goto finished
#ifdef CONDITION
        :: op == AWAIT && things > 0 -> things--
        :: op == AWAIT && things == 0 -> goto await
        :: op == POST -> assert(word[A] == SERIAL); things++
        :: op == SIGNAL || op == BROADCAST -> goto signal
#endif
        :: IS(LOCK) || IS(TRY) ->
#if !defined(MUTANT_R1) && !defined(MUTANT_R2)
            COUNT_IN;                                                                   /* R1 */
#endif
            goto look
        :: IS(UNLOCK) && trylost -> trylost = 0
#ifdef LATE
        :: op == BARE && generation == 0 -> goto bare
        :: op == BARE && generation != 0
        :: IS(UNLOCK) && !trylost && word[L] != SERIAL ->
            /* It was taken over while nobody knew that its holder lives. The child ends with a message. */
            assert(_pid < N && lost[L]);                             /* reach: trap */
            x = 0;
            do
            :: x < TOTAL -> leaving = leaving + (x != _pid && !gone[x]); gone[x] = (x != _pid -> 1 : gone[x]); x++
            :: else -> break
            od;
            x = 0;
            goto finished
#endif
#ifdef LATE
        :: IS(UNLOCK) && !trylost && word[L] == SERIAL ->
#else
        :: IS(UNLOCK) && !trylost ->
#endif
            assert(word[L] == SERIAL);   /* nobody takes my lock from me, least of all the survivor's in the child (R16) */
#ifdef MUTANT_R7
            COUNT_OUT;
#else
#ifdef WAKES
            wakes = contended[L]; contended[L] = 0;
#endif
            word[L] = 0;                                                                /* R7 */
#endif
            goto leave
        :: op == TURN && generation == DEPTH                                                 /* the model ends here */
#ifdef LATE
        :: op == TURN && generation < DEPTH -> goto known_first
#else
        :: op == TURN && generation < DEPTH ->
            /* The turn and who waits for it are kept under one small mutex, which is never held while anything else is. */
            if
#ifdef MUTANT_R9
            :: true
#else
            :: turn == 0 -> turn = SERIAL
            :: turn != 0 -> waiting[_pid] = 1; FENCE(_pid); goto wait_turn
#endif
            fi
#endif
        :: (op == GO || op == GUARD) && generation == DEPTH
        :: (op == GO || op == GUARD) && generation < DEPTH -> goto fork
        :: op == FLOCK -> foreign == 0 -> foreign = SERIAL
        :: op == FUNLOCK -> assert(foreign == SERIAL); foreign = 0
#ifdef FOREIGNS
        :: IS(FTAKE) -> fword[L] == 0 -> fword[L] = SERIAL
        :: IS(FGIVE) -> assert(fword[L] == SERIAL); fword[L] = 0
#endif
#ifdef EXITING
        :: op == EXIT ->
            /* The slot is freed under the slot-list lock. */
#ifndef MUTANT_R19
            own[_pid] = 0; held[_pid] = 0;                                              /* R19 */
#endif
            ended[_pid] = 1;
#ifdef MUTANT_R19_WAKE
            goto finished
#else
            goto tell
#endif
#endif
#ifdef FREEING
        :: IS(DROP) ->
            drops[L]++;
            if
            :: drops[L] == 2 ->
                /* R6: the lock's user may free it, because nobody will call lock() or unlock() on it, or is in there. */
                assert(note[0] != L+1 && note[1] != L+1 && note[2] != L+1);
                freed[L] = 1
            :: drops[L] < 2
            fi
#endif
        fi
    };
    goto next;

/* ---- taking a lock */

retry:
#if !defined(MUTANT_R1) && !defined(MUTANT_R2)
    COUNT_IN;                                                                           /* R1 */
#endif

look:
#ifdef MUTANT_R2
    /* the word first, then the gate; what was taken stays taken while the thread is parked */
    atomic {
        if
        :: word[L] == 0 || STALE(word[L]) -> word[L] = SERIAL
        :: else
        fi
    };
    COUNT_IN;
#endif
#if defined(FENCED) && !defined(MUTANT_R10_FENCE)
    FENCE(_pid);                                                                        /* R10, the thread's side */
#endif
    if
    :: gate == OPEN                                                                     /* R2 */
#ifndef MUTANT_R4
#ifdef MUTANT_R1
    :: gate != OPEN && own[_pid] > 0
#else
#if defined(LATE) && !defined(MUTANT_R20_NESTED)
    :: SHUT && own[_pid] > 1 && !UNKNOWN && !fresh[_pid]                                      /* R4, R20 */
#else
    :: SHUT && own[_pid] > 1                                                            /* R4 */
#endif
#endif
#endif
#ifdef MUTANT_R3
    :: gate != OPEN
#endif
#ifdef LATE
    :: gate == FENCED_WORD && UNKNOWN ->
        fresh[_pid] = 1;                                             /* reach: adopted */
        adopt();
#ifndef MUTANT_R20_AGAIN
        goto look                        /* the gate once more: a forker that closed it meanwhile may have passed by */
#endif
    :: gate == FENCED_WORD && !UNKNOWN
    :: gate == WIPED -> COUNT_OUT; discover(); goto retry                               /* R20 */
#endif
    :: gate == SEALED && own[_pid] == 1 && PATIENCE_OVER ->                             /* R15 */
        /* Counted in first, seen sealed after that, marked after that, and only then the swap: R10's pair, once more,
         * so that a forker that closes the gate again (second drain, next fork) finds this thread inside or parked. */
#ifndef MUTANT_R15_MARK
        mark[_pid] = BREACH_MARK                                     /* reach: breach */
#endif
    :: else ->                                                                          /* R3 */
#if !defined(MUTANT_R1)
        COUNT_OUT;
#endif
#ifndef MUTANT_R3_WAKE
        WAKE_FORKER;
#endif
#if defined(WAKES) && !defined(MUTANT_R3_NEXT)
        if
        :: slept -> atomic { wake_one(L + 1) }                       /* reach: handed on */
        :: !slept
        fi;
#endif
        goto park
    fi;
#ifdef MUTANT_R1
    COUNT_IN;
#endif

    /* The swap. It is one instruction; an assertion and ghosts are joined to it. */
swap:
    atomic {
        assert(USABLE(L));
        if
        :: word[L] == 0 ->
            torn = 0;
#if defined(WAKES) && !defined(MUTANT_R24_SLEPT)
            contended[L] = slept;                                                       /* R24 */
#endif
            word[L] = SERIAL
#ifdef LATE
        :: STALE(word[L]) && word[L] == 1 && discoveries != 0 -> assert(generation > 1 || had[L]); goto take_over
        :: STALE(word[L]) && !(word[L] == 1 && discoveries != 0) ->
#else
        :: STALE(word[L]) ->                                                            /* R17 */
#endif
            /* The mark says why; a thread that ended inside has no slot to say it. */
            assert(ENDED(word[L] - 1) || mark[word[L] - 1] != 0);
#ifndef MUTANT_R17
            torn = 1;                                                /* reach: torn */
#endif
#ifdef WAKES
            contended[L] = 1;            /* keeps later unlocks slow, no more: nobody sleeps for a stale word */
#endif
            word[L] = SERIAL
#ifdef MUTANT_R2
        :: word[L] == SERIAL
#endif
        :: else ->
            if
            :: IS(TRY) -> trylost = 1; goto count_out
            :: else ->
                want[_pid] = L + 1;
#ifdef WAKES
                seen = word[L];
                goto flag
#else
                goto blocked
#endif
            fi
        fi;
        /* A lock is torn if and only if somebody vanished inside (promises 1 and 2). */
        assert(torn == broken[L]);
        broken[L] = 0; torn = 0; want[_pid] = 0;
#ifdef WAKES
        slept = 0; seen = 0
#endif
#ifdef LATE
        fresh[_pid] = 0
#endif
    };
    goto next;

#ifdef LATE
take_over:                               /* from the one that may live: by the time of the swap it may have said so,
                                          * even have let go of the lock and taken it again: its unlock then traps all the same */
    if
    :: atomic { word[L] == 1 -> broken[L] = 0; word[L] = SERIAL; want[_pid] = 0; lost[L] = 1; goto next }        /* reach: taken over */
    :: word[L] != 1 -> goto look
    fi;

bare:
    atomic {
        if
        :: true                          /* the parent */
        :: true -> become_bypassed()     /* reach: bare */
        fi
    };
    leaving == 0;
    goto next;

known_first:
    discover();
    adopt();
    atomic {
        if
        :: turn == 0 -> turn = SERIAL
        :: turn != 0 -> waiting[_pid] = 1; goto wait_turn
        fi
    };
    goto next;
#endif

/* ---- leaving */

leave:
#ifdef MUTANT_R7
    word[L] = 0;
    goto tell;
#endif
#ifdef WAKES
    if
    :: wakes ->
#ifndef MUTANT_R24_WAKE
        atomic { wake_one(L + 1) };                                                     /* R24 */
#endif
#ifdef CONDITION
        /* Only the slow way out looks for debts: that is what the signaller set the flag for. */
        atomic { wake_waiters(owed[_pid]); owed[_pid] = 0 };                            /* R25 */
#endif
        wakes = 0
    :: !wakes
    fi;
#endif
count_out:
    COUNT_OUT;
#ifdef MUTANT_R8
    goto next;
#endif
tell:
#if defined(FENCED) && !defined(MUTANT_R8_FENCE)
    FENCE(_pid);                                                                        /* R8, R10 */
#endif
    if                                                                                  /* R8 */
    :: gate == OPEN
    :: gate != OPEN -> WAKE_FORKER
    fi;
#ifdef CONDITION
    if
    :: awaits -> goto sleep_on_condition
    :: !awaits
    fi;
#endif
    if
    :: op == EXIT -> goto finished
    :: op != EXIT -> goto next
    fi;

/* ---- parked (R3): a sleep on the gate's word. Breach is decided at `look`. */

park:
#ifdef MUTANT_R15_ORDER                  /* decide, mark, count in, and look no more */
    if
    :: gate == OPEN
    :: gate == SEALED && PATIENCE_OVER -> mark[_pid] = BREACH_MARK; COUNT_IN; goto swap
    fi;
#else
    (!SHUT || (gate == SEALED && PATIENCE_OVER));
#endif
#ifdef LATE
    fresh[_pid] = 0;                           /* whoever closes the gate from now on sees it */
#endif
    goto retry;

/* ---- blocked (R5) */

#ifdef WAKES
flag:                                                                                   /* R24: a compare-and-swap */
    if
#ifdef MUTANT_R24_FLAG
    :: true
#else
    :: atomic { word[L] == seen -> contended[L] = 1 }
    :: word[L] != seen -> goto look
#endif
    fi;
#endif
blocked:
#ifdef MUTANT_R5_ORDER
    note[_pid] = L + 1; same[_pid] = 0;
    COUNT_OUT;
#else
#ifdef MUTANT_R5
    true;
#else
    COUNT_OUT;
#endif
    /* Note and sequence number in one step: a reader that sees one of the two new can only end in "look again". The note
     * is a store-release: who sees it sees the count without this attempt. */
#ifndef MUTANT_R5_NOTE
    d_step { FENCE(_pid); note[_pid] = L + 1; same[_pid] = 0 };
#endif
#endif
#ifndef MUTANT_R5_WAKE
    if
    :: gate == OPEN
    :: gate != OPEN -> WAKE_FORKER
    fi;
#endif
asleep:
#ifdef WAKES
    if                                   /* the kernel compares the word, the flag in it too, before it puts the thread to sleep */
    :: atomic { word[L] == seen && contended[L] -> sleeper[_pid] = L + 1 };
        sleeper[_pid] == 0
#ifdef MUTANT_R24_FLAG
    :: atomic { word[L] == seen && !contended[L] -> sleeper[_pid] = L + 1 };
        sleeper[_pid] == 0
#else
    :: word[L] == seen && !contended[L]
#endif
    :: word[L] != seen
    fi;
    slept = 1;
#else
    if
    :: (word[L] == 0 || STALE(word[L]))  /* the kernel compares the word before it puts the thread to sleep */
#ifdef LENDING
#ifndef MUTANT_R22
    :: turn == SERIAL && LEADS(L) ->                                                    /* R22 */
        /* Under the mutex of the turn. The walk is taken as one step: a thread that waits for its turn waits until it
         * gets it, so that a chain seen piece by piece can at worst lend to somebody who forks first for nothing. */
        atomic {
            if
            :: LEADS(L) ->
                if
                :: WAITS(HOLDER(L)) -> x = HOLDER(L)
                :: else -> x = HOLDER(note[HOLDER(L)] - 1)
                fi;
                lender[x] = SERIAL;                                  /* reach: lend */
                waiting[x] = 0;
                turn = x + 1;
                x = 0;
#ifndef MUTANT_R22_WAITS
                waiting[_pid] = 1;
#endif
                FENCE(_pid)
            :: else -> goto asleep
            fi
        };
        turn == SERIAL;
        goto asleep
#endif
#endif
    fi;
#endif
    /* The owner clears its note under the pin. Taking the pin, clearing and giving it back are one step, because the
     * forker, who alone could look, cannot have the pin meanwhile. */
#ifdef MUTANT_R6
    d_step { note[_pid] = 0; same[_pid] = 0 };
#else
    d_step { !pin[_pid] -> note[_pid] = 0; same[_pid] = 0 };                            /* R6 */
#endif
#ifdef MUTANT_R5
    goto look;
#else
    goto retry;
#endif

#ifdef CONDITION
/* ---- waiting on the condition, and waking those who do (R25) */

await:
#ifndef MUTANT_R25_COUNT
    atomic {                             /* a compare-and-swap of both; those of another generation do not count */
        if
#ifndef MUTANT_R25_GENERATION
        :: waiters_of != generation -> waiters_of = generation; waiters = 1
#endif
        :: else -> waiters++
        fi
    };
#endif
#ifndef MUTANT_R25_SEEN
    unsignalled[_pid] = 1;
#endif
    atomic {
        awaits = 1;
        assert(word[A] == SERIAL);
        op = UNLOCK(A);
        wakes = contended[A]; contended[A] = 0;
        word[A] = 0
    };
    goto leave;
sleep_on_condition:
#ifdef MUTANT_R25_SEEN
    unsignalled[_pid] = 1;
#endif
    if                                   /* the kernel compares the number of signals */
    :: atomic { unsignalled[_pid] -> sleeper[_pid] = ON_CONDITION };
        if
        :: sleeper[_pid] == 0                                        /* reach: waited */
#ifdef GIVES_UP
        :: atomic { GIVES_UP(_pid) && sleeper[_pid] != 0 -> sleeper[_pid] = 0 }
#endif
        fi
    :: !unsignalled[_pid]
    fi;
#ifdef MUTANT_R25_COUNT
    unsignalled[_pid] = 0;
#else
    d_step { unsignalled[_pid] = 0; waiters-- };         /* of this generation: a thread that slept here is in no child */
#endif
#ifdef GIVES_UP
    if
    :: GIVES_UP(_pid)                    /* takes the lock once more, and what there may be, and goes */
    :: !GIVES_UP(_pid) -> pc--
    fi;
#else
    pc--;                                /* looks again whether there is something */
#endif
    atomic { awaits = 0; op = LOCK(A) };
    goto retry;

signal:
#ifdef MUTANT_R25_ORDER
    atomic { wake_waiters((op == SIGNAL -> 1 : ALL)) };
#endif
    atomic {                             /* the number grows first */
        x = 0;
        do
        :: x < TOTAL -> unsignalled[x] = 0; x++
        :: else -> break
        od;
        x = 0
    };
#ifdef MUTANT_R25_ORDER
    goto next;
#endif
    if
    :: waiters == 0 || waiters_of != generation
    :: else ->
        if
        :: word[A] == SERIAL ->
            owed[_pid] = (op == BROADCAST || owed[_pid] + 1 > ALL -> ALL : owed[_pid] + 1);  /* reach: owed */
#ifdef MUTANT_R25_DEBT
            contended[A] = contended[A]
#else
            contended[A] = 1
#endif
        :: word[A] != SERIAL -> atomic { wake_waiters((op == SIGNAL -> 1 : ALL)) }
        fi
    fi;
    goto next;
#endif

/* ---- the turn */

wait_turn:
#ifndef MUTANT_R9_WAKE
    if                                   /* who begins to wait becomes quiet: the forker must hear of it */
    :: gate == OPEN
    :: gate != OPEN -> WAKE_FORKER
    fi;
#endif
    if
    :: turn == SERIAL
#ifdef MUTANT_R21
    :: true -> atomic {                  /* its own deadline passes, and it runs on without having forked */
        if
        :: turn != SERIAL -> waiting[_pid] = 0; pc++
        :: turn == SERIAL
        fi }
#endif
    fi;
    goto next;

/* ---- the fork; from here to the end of `fork_done` this thread has the turn */

fork:
    gate = CLOSED;

barrier:
#if defined(WEAK) && !defined(FENCED)
#ifndef MUTANT_R10
    do                                                                                  /* R10 */
    :: slot < TOTAL -> d_step { FENCE(slot); slot++ }     /* every thread at a moment of its own */
    :: slot == TOTAL -> break
    od;
#endif
#endif

scan:
    /* The forker's own variables; the wake-up word is read first. The marks of an earlier scan are wiped, those of
     * vanished threads stay (R18). Nobody reads marks before the copy. */
    atomic {
        event = 0; marked = 0; x = 0;
        do
        :: x < TOTAL ->
            if
#ifndef MUTANT_R18_WIPE
            :: NO_THREAD(x)
#endif
            :: else -> mark[x] = 0
            fi;
            x++
        :: else -> break
        od;
        slot = 0; x = 0
    };

one:                                                                                    /* R11, one slot after the other */
    if
    :: slot == TOTAL -> goto quiet
    :: slot < TOTAL && (slot == _pid || NO_THREAD(slot)) -> slot++; goto one
    :: slot < TOTAL && !(slot == _pid || NO_THREAD(slot)) ->
#ifndef MUTANT_R11_TURN
        /* First whether it waits, then whether it is inside: who waits stays so until it is handed the turn. */
        if
        :: waiting[slot] ->
            if
            :: held[slot] > 0 ->
#ifndef MUTANT_R11_MARK
                d_step { mark[slot] = TURN_MARK; marked = 1 }        /* reach: turn */
#endif
            :: held[slot] == 0
            fi;
            slot++;
            goto one
        :: !waiting[slot]
        fi;
#endif
        if
        :: held[slot] == 0 -> slot++; goto one
        :: held[slot] > 0
        fi
    fi;

    /* The walk. Each visit: pin the slot, read its note and (for the slot in question) its count; then read the word of
     * the lock; unpin; then see who the holder is. With the note standing the count is exact, because the attempt that
     * wrote the note is counted out already. */
    d_step { cur = slot; second = 0; hops = 0 };
visit:
    atomic {
        pin[cur] = 1;                                                                   /* R6 */
        lk = note[cur];
        if
#ifdef MUTANT_R11_COUNT                   /* trust the count that was read before the note */
        :: cur == slot -> inside = 1
#else
        :: cur == slot -> inside = (held[cur] > 0)
#endif
        :: else
        fi;
        if
        :: !second -> same[cur] = 1
        :: second && !same[cur] -> lk = 0                                               /* R12 */
        :: else
        fi;
        if
        :: lk == 0 -> pin[cur] = 0
        :: else
        fi
    };
    if
    :: lk == 0 -> goto not_quiet
    :: lk != 0 ->
        d_step {
            assert(USABLE(lk - 1));      /* what the note points to is alive (R6) */
#ifdef MUTANT_R12_WORDS                   /* the second pass compares sequence numbers and no more */
            if
            :: !second -> holder = word[lk - 1]; first[cur] = holder
            :: second -> holder = first[cur]
            fi;
#else
            holder = word[lk - 1];
#endif
            pin[cur] = 0
        }
    fi;
    if
    :: holder == 0 || STALE(holder) -> goto not_quiet
    :: holder != 0 && !STALE(holder) ->
        if
        :: ENDED(holder - 1) -> goto not_quiet
        :: holder == SERIAL || waiting[holder - 1] ->
#ifndef MUTANT_R12
            if
            :: !second -> d_step { second = 1; cur = slot; hops = 0 }; goto visit       /* R12 */
            :: second
            fi;
#endif
            if
            :: inside ->
                d_step { mark[slot] = CHAIN_MARK; marked = 1 }       /* reach: chain */
            :: !inside
            fi;
            slot++;
            goto one
        :: else ->
#ifdef MUTANT_R11_CHAIN
            goto not_quiet
#else
            d_step { cur = holder - 1; hops++ };
            if
            :: hops == TOTAL -> goto not_quiet       /* a circle that the application made by itself */
            :: hops < TOTAL -> goto visit
            fi
#endif
        fi
    fi;

not_quiet:
    atomic { cur = 0; hops = 0; lk = 0; holder = 0; second = 0; inside = 0 };
    if
    :: late ->
#ifndef MUTANT_R14_MARK
        mark[slot] = LATE_MARK;                                      /* reach: late */   /* R14 */
#endif
        slot++;
        goto one
    :: !late ->
#ifndef MUTANT_R13_VOID
        slot = 0
#endif
    fi;
sleep:
    if
    :: event -> goto scan
#ifndef MUTANT_R13
    :: windows < WINDOWS && NOTHING_MOVES -> goto window
#endif
#ifdef DEADLINE
#ifndef MUTANT_R14
    :: op == GO -> late = 1; goto scan
    :: op == GUARD -> goto refuse
#endif
#endif
    fi;

window:                                                                                 /* R13 */
    atomic { windows++; gate = OPEN_WORD };                            /* reach: window */
    NOTHING_MOVES;
    gate = CLOSED;
#if defined(MUTANT_R13_VOID)
    goto one;
#elif defined(MUTANT_R13_BARRIER)
    goto scan;
#else
    goto barrier;
#endif

refuse:
    true;                                                            /* reach: refuse */
#ifdef HANDLER_LOCK
    /* In the second drain it is too late to return an error: libc's fork goes on, and the child has to end at once. For
     * the gate, and for everybody else, that is the same as no fork. */
    if
    :: again -> foreign = 0;                                         /* reach: doomed */
    :: !again
    fi;
#endif
#ifdef FOREIGNS
    /* Too late to refuse when they are taken again: the child ends at once. */
    atomic { let_go() };
#endif
#ifdef MUTANT_R14_OPEN
    goto hand_over;
#else
    goto fork_done;
#endif

quiet:
    atomic { cur = 0; hops = 0; lk = 0; holder = 0; second = 0; inside = 0; slot = 0 };
    if
#ifdef MUTANT_R14_REFUSE
    :: true
#else
    :: op == GUARD && marked -> goto refuse                                             /* R14 */
    :: op != GUARD || !marked
#endif
    fi;
#ifdef FOREIGN
    if
    :: atomic { foreign == 0 -> foreign = SERIAL }
    :: foreign != 0 && windows < WINDOWS -> goto window
    fi;
#endif
#ifdef FOREIGNS
foreign_one:
    if
    :: f == FOREIGNS -> goto foreign_had
    :: f < FOREIGNS
    fi;
foreign_try:
    if                                   /* try_lock */
    :: atomic { fword[f] == 0 -> fword[f] = SERIAL; fstate[f] = TAKEN; f++; goto foreign_one }
    :: atomic { fword[f] == SERIAL -> fstate[f] = OWN; f++; goto foreign_one }
    :: fword[f] != 0 && fword[f] != SERIAL
    fi;
    if                                   /* asks whose it is; by now it may be free */
    :: fword[f] == 0 -> goto foreign_try
    :: atomic { fword[f] != 0 -> fowner = fword[f] }
    fi;
    atomic {                             /* ask anew who is blocked on whom */
        x = 0;
        do
        :: x < TOTAL -> same[x] = 0; x++
        :: else -> break
        od;
        x = 0; cur = fowner - 1; second = 0; hops = 0
    };
#ifndef MUTANT_R26_TURN
    if
    :: waiting[fowner - 1] -> goto foreign_stuck
    :: !waiting[fowner - 1]
    fi;
#endif
foreign_visit:
    atomic {
        pin[cur] = 1;
        lk = note[cur];
        if
        :: !second -> same[cur] = 1
        :: second && !same[cur] -> lk = 0
        :: else
        fi;
        if
        :: lk == 0 -> pin[cur] = 0; goto foreign_not
        :: else
        fi
    };
    d_step { holder = word[lk - 1]; pin[cur] = 0 };
    if
    :: holder == 0 || STALE(holder) -> goto foreign_not
    :: holder != 0 && !STALE(holder) ->
        if
        :: holder == SERIAL || waiting[holder - 1] ->
            if
            :: !second -> atomic { second = 1; cur = fowner - 1; hops = 0; goto foreign_visit }
            :: second -> goto foreign_stuck
            fi
        :: else ->
            d_step { cur = holder - 1; hops++ };
            if
            :: hops == TOTAL -> goto foreign_not
            :: hops < TOTAL -> goto foreign_visit
            fi
        fi
    fi;
foreign_stuck:
#ifndef MUTANT_R26_AGAIN
    /* Whose it is, once more: who was seen stuck after it was seen to have the lock may have let go of it in between. Who is stuck and
     * has it stays so. */
    if
    :: fword[f] == fowner
    :: fword[f] != fowner -> goto foreign_not
    fi;
#endif
#ifdef MUTANT_R26_STUCK              /* nobody is stuck with a lock */
    goto foreign_not;
#endif
    atomic {
        cur = 0; hops = 0; lk = 0; holder = 0; second = 0;
        fstate[f] = STUCK;                                           /* reach: stuck */
        marked = 1;
        f++;
        goto foreign_one
    };
foreign_not:
    atomic { cur = 0; hops = 0; lk = 0; holder = 0; second = 0 };
    if
    :: late -> atomic { fstate[f] = MISSED; f++; goto foreign_one }
    :: !late
    fi;
    if                                   /* with the gate closed, and what it has in hand, for a while */
    :: fword[f] != fowner -> goto foreign_try
#if !defined(MUTANT_R26_STUCK) && !defined(MUTANT_R26_TURN)
    :: fword[f] == fowner && LEADS_TO_ME(fowner - 1) -> goto foreign_try
#endif
#ifndef MUTANT_R26_WINDOW
    :: windows < WINDOWS && NOTHING_MOVES -> atomic { let_go(); goto window }
#endif
#if defined(DEADLINE) && !defined(MUTANT_R26_DEADLINE)
    :: op == GO && NOTHING_MOVES -> late = 1; goto foreign_try       /* reach: missed */
    :: op == GUARD && NOTHING_MOVES -> goto refuse
#endif
    fi;
foreign_had:
    if
#ifdef MUTANT_R26_REFUSE
    :: true
#else
    :: op == GUARD && marked -> goto refuse
    :: op != GUARD || !marked
#endif
    fi;
#endif
    gate = SEALED;                                                                      /* the end of prepare */
#ifdef FOREIGNS
    if
    :: op == GUARD && !again ->
        atomic { let_go() };
        again = 1;
#ifndef MUTANT_R26_RETAKE
        goto fork                                                    /* reach: taken again */
#endif
    :: op != GUARD || again
    fi;
#endif
#ifdef HANDLER_LOCK
    if
    :: again
    :: !again ->
        atomic { foreign == 0 -> foreign = SERIAL };     /* another library's handler */
        again = 1;
#ifndef MUTANT_R15_DRAIN
        goto fork                                                    /* reach: drain */  /* R15: once more */
#endif
    fi;
#endif
#ifdef LIBC_LOCK
    atomic { foreign == 0 -> foreign = SERIAL };         /* libc itself, after all handlers */
#endif

    atomic { check_copy() };
    if
#ifdef FOREIGNS
    :: atomic { true -> let_go() }
#else
    :: true                              /* the parent; also one whose fork failed */
#endif
#if defined(FOREIGN) || defined(LIBC_LOCK) || defined(HANDLER_LOCK)
        -> foreign = 0
#endif
#ifndef NO_CHILD
    :: true -> d_step { become_child() }; leaving == 0        /* reach: child */
#endif
    fi;

fork_done:
    gate = OPEN_WORD;
hand_over:
    /* The turn, under its mutex. In a child nobody waits any more: the slots of those who did are stale. */
    atomic {
        forget_fork();
        FENCE(_pid);
        if
#ifdef LENDING
        :: lender[_pid] != 0 -> turn = lender[_pid]; lender[_pid] = 0; waiting[turn - 1] = 0     /* R22 */
        :: lender[_pid] == 0 ->
#else
        :: true ->
#endif
            if
            :: HAND_TO(0)
            :: HAND_TO(1)
            :: HAND_TO(2)
            :: HAND_TO(3)
            :: HAND_TO(4)
            :: else -> turn = 0
            fi
        fi
    };
    goto next;

finished:
end_finished:
    false
    } unless { atomic { gone[_pid] -> pc = 0; op = 0; trylost = 0; torn = 0; LOCALS_GONE leaving-- } }
}

#ifdef WEAK
#define FLUSH(t) d_step { own[t] != held[t] -> held[t] = own[t] }
active proctype StoreBuffers() {
end_flush:
    do
    :: FLUSH(0)
    :: FLUSH(1)
    :: FLUSH(2)
    :: FLUSH(3)
    od
}
#endif


#else
/* -------------------------------------------------------------------------------------------------- a bypassed child */

/* R20. No handler ran in this child: _Fork(), a bare system call. It finds the words, the turn and the slots as they were
 * at any instant (the model picks them), and a wiped page. Thread 0 is the one that forked, thread 1 one that it made. They
 * may ask their first question at once. Nobody knows who survived, so the forking thread's own holds are stale too, and an
 * unlock of one that was taken over ends the child with a message. */

byte discovery;                          /* in the wiped page: 0 not begun, 1 under way, 2 done */
byte next = 4;                           /* serial; 1 is the survivor's, 2 and 3 are those of vanished threads */
byte serial[2];
byte discoveries;
bit  trapped;

#define ME serial[self]

inline ask() {
    do
    :: gate == OPEN -> break
    :: gate == WIPED ->
        if
#ifdef MUTANT_R20
        :: true ->
#else
        :: d_step { discovery == 0 -> discovery = 1 } ->         /* a compare-and-swap */
#endif
            horizon = next;
            survivor = 0;
#ifndef MUTANT_R20_TURN
            turn = 0;                    /* whoever had the turn is gone */
#endif
            discoveries++;
            assert(discoveries == 1);
            gate = OPEN;
            discovery = 2
        :: discovery == 1 -> discovery == 2
        :: discovery == 2
        fi
    od;
    if                                   /* a serial from before the discovery is stale, also my own */
    :: ME < horizon -> d_step { ME = next; next++ }
    :: ME >= horizon
    fi
}

inline take(l) {
    ask();
    do
    :: atomic {
        word[l] == 0 || STALE(word[l]) ->
        torn = (word[l] != 0);
        assert(torn == broken[l]);
        broken[l] = 0;
        word[l] = ME
       };
       break
    :: word[l] != 0 && !STALE(word[l]) -> word[l] == 0 || STALE(word[l])
    od
}

inline give(l, mine) {                   /* an exchange: what was there tells whether it was mine */
    atomic {
        if
        :: word[l] == mine -> word[l] = 0; broken[l] = 0
        :: word[l] != mine -> assert(self == 0 && mine == 1); trapped = 1
        fi
    }
}

proctype Bypassed(bit self) {
    bit torn;
    bit mine[2];
    {
    d_step { mine[A] = (self == 0 && word[A] == 1); mine[B] = (self == 0 && word[B] == 1) };
    if
    :: mine[A] -> give(A, 1)
    :: true -> skip
    fi;
    if
    :: !mine[A] -> take(A); give(A, ME)
    :: mine[A]
    fi;
    if
    :: !mine[B] -> take(B); give(B, ME)
    :: mine[B] -> give(B, 1)
    fi;
    ask();
    atomic { turn == 0 -> turn = ME };   /* it can fork in its turn */
    turn = 0
    } unless { trapped }
}

init {
    atomic {
        serial[0] = 1;
        gate = WIPED;
        if :: word[A] = 0 :: word[A] = 1 :: word[A] = 2 fi;
        if :: word[B] = 0 :: word[B] = 1 :: word[B] = 3 fi;
        if :: turn = 0 :: turn = 2 fi;
        broken[A] = (word[A] != 0);
        broken[B] = (word[B] != 0);
        /* the new thread's serial: from before or after the other's discovery, as it comes */
        serial[1] = next; next++;
        run Bypassed(0);
        run Bypassed(1)
    }
}
#endif
