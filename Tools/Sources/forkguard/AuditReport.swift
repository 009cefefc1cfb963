/// What `forkguard audit` found: the document that `--json` writes. Members that are not known are absent.
struct AuditReport: Codable {
    /// 1. New members do not change it.
    var version = 1
    /// CMD and its arguments.
    var command: [String]
    /// CMD's process id.
    var process: Int32
    /// CMD's exit status; absent when a signal ended it, or the time limit did.
    var exitStatus: Int32?
    /// The signal that ended CMD.
    var signal: Int32?
    /// Whether `--timeout` ended it.
    var timedOut: Bool
    /// How long it was watched.
    var seconds: Double
    /// How many processes reported: CMD, its children that did not execute a program, and what they execute.
    var processes: Int
    /// How many forks there were.
    var forkCount: Int
    /// What is wrong. Ordered by name.
    var findings: [Finding]
    /// The forks, those with the same stack of the forking thread together. Those with findings first, then those from
    /// processes with several threads, then the others; the most frequent first.
    var forks: [ForkKind]
    /// What limits this report, and risks that came to nothing.
    var notes: [String]

    /// One thing that is wrong, however often it happened.
    struct Finding: Codable {
        /// One of the names that `Docs/reading-an-audit.md` explains.
        var name: String
        /// In one line.
        var title: String
        /// Why it is wrong.
        var explanation: String
        /// What to do.
        var fix: String
        /// How often it happened.
        var count: Int
        /// The ids of the kinds of fork that it came with.
        var forks: [String]
        /// The facts, each distinct one, up to ten.
        var details: [String]
        /// Where in the program, each distinct place, up to ten.
        var places: [Place]
    }

    /// A stack, and whose.
    struct Place: Codable, Hashable {
        /// Who was there: "child", "parent", "process".
        var side: String
        /// What it did: "write", "waits for a mutex".
        var what: String
        /// Innermost first.
        var stack: [Frame]
    }

    /// One call in a stack.
    struct Frame: Codable, Hashable {
        /// The executable's or library's path; absent where the address is in none.
        var object: String?
        /// Bytes from where the object was loaded.
        var offset: UInt64?
        /// The function; readable for Swift and C++.
        var function: String?
        /// Absent without debug information.
        var file: String?
        var line: Int?
        /// "0x7f.."; where there is no object.
        var address: String?
    }

    /// All forks by calls with one stack.
    struct ForkKind: Codable {
        /// F1, F2, ...
        var id: String
        var count: Int
        /// How many of them failed.
        var failed: Int
        /// "fork", "_Fork", "daemon", ...
        var via: String
        /// The names of the threads that forked.
        var threads: [String]
        /// Whether one of them was in a signal handler.
        var inSignalHandler: Bool
        /// Where the fork was called, innermost first.
        var stack: [Frame]
        var children: Children
        /// At how many of the forks the other threads were looked at.
        var threadsReadAt: Int
        /// The threads that are not in the child, alike ones together.
        var vanished: [VanishedThread]
        /// What those held, as the child's memory had it.
        var held: [HeldLock]
        /// What was open.
        var descriptors: [InheritedDescriptor]
        /// How many more descriptors there were than are listed.
        var descriptorsLeftOff: Int
    }

    /// What became of the children of a kind of fork.
    struct Children: Codable {
        var executed = 0
        var exited = 0
        /// Gone without a word: by a signal.
        var killed = 0
        var running = 0
        /// Of the above, those that hung.
        var hung = 0
    }

    struct VanishedThread: Codable {
        var name: String
        var count: Int
        /// The system call that it was in; absent when it ran.
        var call: String?
        /// In words; "does what nobody may see" where the kernel refuses to tell.
        var doing: String
        var stack: [Frame]
    }

    struct HeldLock: Codable {
        /// "mutex" or "rwlock".
        var kind: String
        /// "0x7f..", of the first that was seen.
        var address: String
        /// The variable that it is, or is in.
        var symbol: String?
        /// The name of the thread that held it.
        var thread: String
        var count: Int
        /// Where it was taken.
        var stack: [Frame]
    }

    struct InheritedDescriptor: Codable {
        var number: Int32
        /// "socket", "epoll", "eventfd", "timerfd", "signalfd", "inotify", "pipe", "file", "directory", "terminal", "other"
        var kind: String
        /// Of a socket: "stream", "dgram", "seqpacket"
        var type: String?
        var listening: Bool?
        var local: String?
        var peer: String?
        var path: String?
        /// A file's offset at the first fork, which both processes move.
        var offset: UInt64?
        /// Of an epoll set: the descriptors in it.
        var targets: [Int32]?
        /// At how many of the forks it was open.
        var count: Int
        /// What the parents and the children then did with it.
        var usedByParent: [String]
        var usedByChild: [String]
    }
}
