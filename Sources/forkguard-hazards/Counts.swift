/// A row's column, counted.
struct Counts {
    private(set) var forks = 0
    private(set) var ok = 0
    private(set) var refused = 0
    private(set) var hung = 0
    private(set) var crashed = 0
    /// At how many of the forks a hammer was inside.
    private(set) var inside = 0

    mutating func add(_ outcome: Outcome, inside isInside: Bool) {
        forks += 1
        if isInside { inside += 1 }
        switch outcome {
        case .ok: ok += 1
        case .refused: refused += 1
        case .hung: hung += 1
        case .crashed: crashed += 1
        }
    }

    /// A JSON object. Without ForkGuard nothing can be refused.
    func json(_ column: Column) -> String {
        let refusals = column == .guarded ? "\"refused\":\(refused)," : ""
        return "{\"forks\":\(forks),\"ok\":\(ok),\(refusals)\"hung\":\(hung),\"crashed\":\(crashed),\"inside\":\(inside)}"
    }
}
