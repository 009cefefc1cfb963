/// Lazy globals, enough of them: each can be made once in a process only.
enum LazyGlobals {
    /// Those that the parent makes while it forks, one for each fork.
    static let count = 20

    private static let global0 = make(0)
    private static let global1 = make(1)
    private static let global2 = make(2)
    private static let global3 = make(3)
    private static let global4 = make(4)
    private static let global5 = make(5)
    private static let global6 = make(6)
    private static let global7 = make(7)
    private static let global8 = make(8)
    private static let global9 = make(9)
    private static let global10 = make(10)
    private static let global11 = make(11)
    private static let global12 = make(12)
    private static let global13 = make(13)
    private static let global14 = make(14)
    private static let global15 = make(15)
    private static let global16 = make(16)
    private static let global17 = make(17)
    private static let global18 = make(18)
    private static let global19 = make(19)
    private static let another = make(100)
    private static let contended = makeContended()

    /// The global of that index, made at its first use; its value is `value(index)`.
    static func use(_ index: Int) -> Int {
        switch index % count {
        case 0: global0
        case 1: global1
        case 2: global2
        case 3: global3
        case 4: global4
        case 5: global5
        case 6: global6
        case 7: global7
        case 8: global8
        case 9: global9
        case 10: global10
        case 11: global11
        case 12: global12
        case 13: global13
        case 14: global14
        case 15: global15
        case 16: global16
        case 17: global17
        case 18: global18
        default: global19
        }
    }

    /// One that the parent never uses.
    static func useAnother() -> Int { another }

    /// One whose initialiser takes so long that another thread gets to it, too.
    static func useContended() -> Int { contended }

    static func value(_ index: Int) -> Int { index * 7 + 1 }

    /// Whether the initialiser of the contended one runs.
    static let isMakingContended = Flag()

    /// Takes a millisecond.
    private static func make(_ index: Int) -> Int {
        Clock.hold(microseconds: 1000)
        return value(index)
    }

    /// Takes five, so that another thread gets there.
    private static func makeContended() -> Int {
        isMakingContended.set()
        Clock.hold(microseconds: 5000)
        return value(200)
    }
}
