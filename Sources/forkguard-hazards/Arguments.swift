/// The command line.
struct Arguments {
    var rows = Rows.all
    var forks: Int?
    var loads = Load.usual
    var columns = Column.allCases
    var writesJSON = false
    var wantsList = false
    var wantsSupport = false
    var wantsHelp = false

    /// What is wrong with which argument.
    struct Wrong: Error {
        let message: String
        init(_ message: String) { self.message = message }
    }

    static let mostForks = 100_000

    init(_ words: [String]) throws(Wrong) {
        var rest = words[...]
        while let word = rest.popFirst() {
            let (option, attached) = Self.split(word)
            switch option {
            case "--help", "-h": wantsHelp = true
            case "--list": wantsList = true
            case "--support": wantsSupport = true
            case "--json": writesJSON = true
            case "--rows": rows = try Self.rows(try Self.value(of: option, attached, &rest))
            case "--forks":
                let text = try Self.value(of: option, attached, &rest)
                guard let number = Int(text), (1...Self.mostForks).contains(number) else {
                    throw Wrong("--forks: '\(text)' is not a number from 1 to \(Self.mostForks)")
                }
                forks = number
            case "--load":
                let text = try Self.value(of: option, attached, &rest)
                guard let load = Load(rawValue: text) else { throw Wrong("--load: '\(text)' is not 'idle', 'hammered' or 'alone'") }
                loads = [load]
            case "--only":
                let text = try Self.value(of: option, attached, &rest)
                guard let column = Column(rawValue: text) else { throw Wrong("--only: '\(text)' is not 'guarded' or 'unguarded'") }
                columns = [column]
            default: throw Wrong("'\(word)' is not an option")
            }
            if attached != nil, ["--help", "-h", "--list", "--support", "--json"].contains(option) {
                throw Wrong("\(option) takes no value")
            }
        }
    }

    /// `--option=value` is `--option value`.
    private static func split(_ word: String) -> (option: String, value: String?) {
        guard word.hasPrefix("--"), let sign = word.firstIndex(of: "=") else { return (word, nil) }
        return (String(word[..<sign]), String(word[word.index(after: sign)...]))
    }

    private static func value(of option: String, _ attached: String?, _ rest: inout ArraySlice<String>) throws(Wrong) -> String {
        guard let value = attached ?? rest.popFirst() else { throw Wrong("\(option) needs a value") }
        return value
    }

    /// Names and groups, in the order given, each once.
    private static func rows(_ text: String) throws(Wrong) -> [Row] {
        var rows: [Row] = []
        for name in text.split(separator: ",", omittingEmptySubsequences: false).map(String.init) {
            let found = RowGroup(rawValue: name).map { group in Rows.all.filter { $0.group == group } } ?? Rows.named(name).map { [$0] }
            guard let found else {
                let nearest = Rows.nearest(to: name).map { "'\($0)'" }.joined(separator: ", ")
                throw Wrong("--rows: there is no row '\(name)'; the nearest are \(nearest)")
            }
            rows += found.filter { new in !rows.contains { $0.name == new.name } }
        }
        return rows
    }

    static let help = """
        Shows, row by row, what survives a fork in a multi-threaded Swift process, with ForkGuard and without.

        Usage: forkguard-hazards [options]

          --list                 The rows: what each is about.
          --rows A,B,…           These rows only; 'locked' and 'handed' are all rows of that group: what is
                                 locked or half done, and what is handed to others' threads. Default: all.
          --forks N              Forks per row, load and column, 1 to \(mostForks).
                                 Default: \(Load.hammered.defaultForks) hammered, \(Load.idle.defaultForks) idle.
          --load idle|hammered|alone
                                 This load only. Idle: the parent's other threads have done the operation, and are parked. Hammered: they
                                 do it in a tight loop. Default: both. Alone: there are no other threads, and the child is the first to
                                 do it; who fails here fails for another reason than the fork.
          --only guarded|unguarded
                                 This column only; the other one stays 0. Default: both.
          --support              Which cures are on here, why the others are not, and how long the checks at start took.
          --json                 One line of JSON instead of the table; what went wrong is told on standard error.
          --help                 This.

        Each row is an operation. Fresh processes do it in several threads, and fork; the child does it on the thread that forked, and
        must get the right result within 2 seconds.
          Without ForkGuard: the forks are raw fork() calls, nothing of ForkGuard's is used, FORKGUARD_RUNTIME=off keeps its cures off.
          With: all cures are on, and every second child is forked by ForkGuard.fork, which runs it on a fresh thread.
        ok: the right result. refused: ForkGuard said why not, in an error or a message. hung: killed after 2 s. crashed: a signal, or a
        wrong result. inside: at how many of the forks another thread was in the middle of the operation. A parent that hangs or dies
        itself counts as one such child. As each hung child takes two seconds, a row ends after
        \(Column.unguarded.enoughHung) of them without ForkGuard, and after \(Column.guarded.enoughHung) with it.

        --json prints [{"row":"…","load":"…","unguarded":{…},"guarded":{…}},…], each object with forks, ok, hung, crashed, inside; guarded
        ones also with refused.

        Exit status: 0 when with ForkGuard no child hung or crashed, or was refused what it must get; 1 when one was; 64 for a bad argument;
        71 when the system failed.

        """
}
