// swift-format-ignore-file: a table of globals, of which each can be used for the first time only once in a process.

/// What the compiler cannot know.
@inline(never)
func value(_ index: Int) -> Int { CommandLine.argc > 100 ? 0 : index }

let g000 = value(0), g001 = value(1), g002 = value(2), g003 = value(3)
let g004 = value(4), g005 = value(5), g006 = value(6), g007 = value(7)
let g008 = value(8), g009 = value(9), g010 = value(10), g011 = value(11)
let g012 = value(12), g013 = value(13), g014 = value(14), g015 = value(15)
let g016 = value(16), g017 = value(17), g018 = value(18), g019 = value(19)
let g020 = value(20), g021 = value(21), g022 = value(22), g023 = value(23)
let g024 = value(24), g025 = value(25), g026 = value(26), g027 = value(27)
let g028 = value(28), g029 = value(29), g030 = value(30), g031 = value(31)
let g032 = value(32), g033 = value(33), g034 = value(34), g035 = value(35)
let g036 = value(36), g037 = value(37), g038 = value(38), g039 = value(39)
let g040 = value(40), g041 = value(41), g042 = value(42), g043 = value(43)
let g044 = value(44), g045 = value(45), g046 = value(46), g047 = value(47)
let g048 = value(48), g049 = value(49), g050 = value(50), g051 = value(51)
let g052 = value(52), g053 = value(53), g054 = value(54), g055 = value(55)
let g056 = value(56), g057 = value(57), g058 = value(58), g059 = value(59)
let g060 = value(60), g061 = value(61), g062 = value(62), g063 = value(63)
let g064 = value(64), g065 = value(65), g066 = value(66), g067 = value(67)
let g068 = value(68), g069 = value(69), g070 = value(70), g071 = value(71)
let g072 = value(72), g073 = value(73), g074 = value(74), g075 = value(75)
let g076 = value(76), g077 = value(77), g078 = value(78), g079 = value(79)
let g080 = value(80), g081 = value(81), g082 = value(82), g083 = value(83)
let g084 = value(84), g085 = value(85), g086 = value(86), g087 = value(87)
let g088 = value(88), g089 = value(89), g090 = value(90), g091 = value(91)
let g092 = value(92), g093 = value(93), g094 = value(94), g095 = value(95)
let g096 = value(96), g097 = value(97), g098 = value(98), g099 = value(99)
let g100 = value(100), g101 = value(101), g102 = value(102), g103 = value(103)
let g104 = value(104), g105 = value(105), g106 = value(106), g107 = value(107)
let g108 = value(108), g109 = value(109), g110 = value(110), g111 = value(111)
let g112 = value(112), g113 = value(113), g114 = value(114), g115 = value(115)
let g116 = value(116), g117 = value(117), g118 = value(118), g119 = value(119)
let g120 = value(120), g121 = value(121), g122 = value(122), g123 = value(123)
let g124 = value(124), g125 = value(125), g126 = value(126), g127 = value(127)
let g128 = value(128), g129 = value(129), g130 = value(130), g131 = value(131)
let g132 = value(132), g133 = value(133), g134 = value(134), g135 = value(135)
let g136 = value(136), g137 = value(137), g138 = value(138), g139 = value(139)
let g140 = value(140), g141 = value(141), g142 = value(142), g143 = value(143)
let g144 = value(144), g145 = value(145), g146 = value(146), g147 = value(147)
let g148 = value(148), g149 = value(149), g150 = value(150), g151 = value(151)
let g152 = value(152), g153 = value(153), g154 = value(154), g155 = value(155)
let g156 = value(156), g157 = value(157), g158 = value(158), g159 = value(159)
let g160 = value(160), g161 = value(161), g162 = value(162), g163 = value(163)
let g164 = value(164), g165 = value(165), g166 = value(166), g167 = value(167)
let g168 = value(168), g169 = value(169), g170 = value(170), g171 = value(171)
let g172 = value(172), g173 = value(173), g174 = value(174), g175 = value(175)
let g176 = value(176), g177 = value(177), g178 = value(178), g179 = value(179)
let g180 = value(180), g181 = value(181), g182 = value(182), g183 = value(183)
let g184 = value(184), g185 = value(185), g186 = value(186), g187 = value(187)
let g188 = value(188), g189 = value(189), g190 = value(190), g191 = value(191)
let g192 = value(192), g193 = value(193), g194 = value(194), g195 = value(195)
let g196 = value(196), g197 = value(197), g198 = value(198), g199 = value(199)
let g200 = value(200), g201 = value(201), g202 = value(202), g203 = value(203)
let g204 = value(204), g205 = value(205), g206 = value(206), g207 = value(207)
let g208 = value(208), g209 = value(209), g210 = value(210), g211 = value(211)
let g212 = value(212), g213 = value(213), g214 = value(214), g215 = value(215)
let g216 = value(216), g217 = value(217), g218 = value(218), g219 = value(219)
let g220 = value(220), g221 = value(221), g222 = value(222), g223 = value(223)
let g224 = value(224), g225 = value(225), g226 = value(226), g227 = value(227)
let g228 = value(228), g229 = value(229), g230 = value(230), g231 = value(231)
let g232 = value(232), g233 = value(233), g234 = value(234), g235 = value(235)
let g236 = value(236), g237 = value(237), g238 = value(238), g239 = value(239)
let g240 = value(240), g241 = value(241), g242 = value(242), g243 = value(243)
let g244 = value(244), g245 = value(245), g246 = value(246), g247 = value(247)
let g248 = value(248), g249 = value(249), g250 = value(250), g251 = value(251)
let g252 = value(252), g253 = value(253), g254 = value(254), g255 = value(255)

let globals: [@Sendable () -> Int] = [
    { g000 }, { g001 }, { g002 }, { g003 }, { g004 }, { g005 }, { g006 }, { g007 },
    { g008 }, { g009 }, { g010 }, { g011 }, { g012 }, { g013 }, { g014 }, { g015 },
    { g016 }, { g017 }, { g018 }, { g019 }, { g020 }, { g021 }, { g022 }, { g023 },
    { g024 }, { g025 }, { g026 }, { g027 }, { g028 }, { g029 }, { g030 }, { g031 },
    { g032 }, { g033 }, { g034 }, { g035 }, { g036 }, { g037 }, { g038 }, { g039 },
    { g040 }, { g041 }, { g042 }, { g043 }, { g044 }, { g045 }, { g046 }, { g047 },
    { g048 }, { g049 }, { g050 }, { g051 }, { g052 }, { g053 }, { g054 }, { g055 },
    { g056 }, { g057 }, { g058 }, { g059 }, { g060 }, { g061 }, { g062 }, { g063 },
    { g064 }, { g065 }, { g066 }, { g067 }, { g068 }, { g069 }, { g070 }, { g071 },
    { g072 }, { g073 }, { g074 }, { g075 }, { g076 }, { g077 }, { g078 }, { g079 },
    { g080 }, { g081 }, { g082 }, { g083 }, { g084 }, { g085 }, { g086 }, { g087 },
    { g088 }, { g089 }, { g090 }, { g091 }, { g092 }, { g093 }, { g094 }, { g095 },
    { g096 }, { g097 }, { g098 }, { g099 }, { g100 }, { g101 }, { g102 }, { g103 },
    { g104 }, { g105 }, { g106 }, { g107 }, { g108 }, { g109 }, { g110 }, { g111 },
    { g112 }, { g113 }, { g114 }, { g115 }, { g116 }, { g117 }, { g118 }, { g119 },
    { g120 }, { g121 }, { g122 }, { g123 }, { g124 }, { g125 }, { g126 }, { g127 },
    { g128 }, { g129 }, { g130 }, { g131 }, { g132 }, { g133 }, { g134 }, { g135 },
    { g136 }, { g137 }, { g138 }, { g139 }, { g140 }, { g141 }, { g142 }, { g143 },
    { g144 }, { g145 }, { g146 }, { g147 }, { g148 }, { g149 }, { g150 }, { g151 },
    { g152 }, { g153 }, { g154 }, { g155 }, { g156 }, { g157 }, { g158 }, { g159 },
    { g160 }, { g161 }, { g162 }, { g163 }, { g164 }, { g165 }, { g166 }, { g167 },
    { g168 }, { g169 }, { g170 }, { g171 }, { g172 }, { g173 }, { g174 }, { g175 },
    { g176 }, { g177 }, { g178 }, { g179 }, { g180 }, { g181 }, { g182 }, { g183 },
    { g184 }, { g185 }, { g186 }, { g187 }, { g188 }, { g189 }, { g190 }, { g191 },
    { g192 }, { g193 }, { g194 }, { g195 }, { g196 }, { g197 }, { g198 }, { g199 },
    { g200 }, { g201 }, { g202 }, { g203 }, { g204 }, { g205 }, { g206 }, { g207 },
    { g208 }, { g209 }, { g210 }, { g211 }, { g212 }, { g213 }, { g214 }, { g215 },
    { g216 }, { g217 }, { g218 }, { g219 }, { g220 }, { g221 }, { g222 }, { g223 },
    { g224 }, { g225 }, { g226 }, { g227 }, { g228 }, { g229 }, { g230 }, { g231 },
    { g232 }, { g233 }, { g234 }, { g235 }, { g236 }, { g237 }, { g238 }, { g239 },
    { g240 }, { g241 }, { g242 }, { g243 }, { g244 }, { g245 }, { g246 }, { g247 },
    { g248 }, { g249 }, { g250 }, { g251 }, { g252 }, { g253 }, { g254 }, { g255 },
]
