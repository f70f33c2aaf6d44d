"""The types that stages exchange: frozen dataclasses and protocols, and no algorithm of a stage.

Any stage may import them, so stages need not import one another. Nothing comes in and nothing goes out.

- what can be removed: `groups` (`Group`, `Choice`, `Blocked`), `selection` (how many units a group may
  keep);
- a kind of unit: `reduction` (`Reduction`, `Space`, `Consumer`, `Trace`, `Cut`), `cut`, `traces`,
  `gates`;
- where units are, for costs: `effect`; what becomes of each weight: `weights`;
- what is asked for: `options` (how an option is declared), `budget` (`Limit`, `Budget`), `rules`
  (`--select`);
- sums over samples: `request`, `stats`;
- what is made: `maker` (`Candidate`), `repaired`, `proof` (`Proved`), `verdict`, `plan`, `rewrite`.

A type belongs here as soon as two stages use it. Only `proof` may make a `Proved`.
"""
