//! The words that say something of a prompt by themselves, in English: each with what it hints at.

/// What a word hints at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    Negation,
    Condition,
    Ratio,
    Each,
    Total,
    Comparison,
    Time,
    Order,
    Quantity,
    Which,
    What,
    Why,
    How,
    Person,
    Claim,
    Proof,
    Writing,
    Constraint,
    Code,
    Quantifier,
    Moral,
    Law,
    Blank,
}

/// How many kinds of hint there are.
pub const HINTS: usize = Hint::Blank as usize + 1;

/// No word of the table is longer.
pub const LONGEST: usize = 12;

/// Looks up a word in lower case.
pub fn hint(word: &[u8]) -> Option<Hint> {
    Some(match word {
        b"not" | b"except" | b"never" | b"no" | b"none" | b"neither" | b"nor" | b"without"
        | b"false" | b"isn't" | b"doesn't" | b"cannot" | b"can't" | b"least" => Hint::Negation,
        b"if" | b"when" | b"unless" | b"then" | b"suppose" | b"assume" | b"assuming" | b"given"
        | b"provided" | b"otherwise" | b"would" => Hint::Condition,
        b"half" | b"twice" | b"third" | b"thirds" | b"double" | b"triple" | b"times"
        | b"quarter" | b"quarters" | b"percent" | b"percentage" | b"ratio" | b"fraction"
        | b"average" => Hint::Ratio,
        b"each" | b"every" | b"per" | b"apiece" => Hint::Each,
        b"total" | b"altogether" | b"remaining" | b"left" | b"rest" | b"remainder" | b"sum"
        | b"combined" | b"together" => Hint::Total,
        b"more" | b"less" | b"fewer" | b"than" | b"most" | b"greater" | b"larger" | b"smaller"
        | b"higher" | b"lower" | b"increase" | b"decrease" | b"increases" | b"decreases" => {
            Hint::Comparison
        }
        b"second" | b"seconds" | b"minute" | b"minutes" | b"hour" | b"hours" | b"day" | b"days"
        | b"week" | b"weeks" | b"month" | b"months" | b"year" | b"years" | b"old" => Hint::Time,
        b"first" | b"next" | b"after" | b"before" | b"finally" | b"later" | b"last" | b"until" => {
            Hint::Order
        }
        b"many" | b"much" | b"number" | b"amount" | b"cost" | b"costs" | b"price"
        | b"calculate" | b"compute" | b"find" | b"solve" | b"evaluate" => Hint::Quantity,
        b"which" => Hint::Which,
        b"what" | b"who" | b"where" => Hint::What,
        b"why" | b"explain" | b"because" | b"reason" => Hint::Why,
        b"how" => Hint::How,
        b"i" | b"my" | b"me" | b"we" | b"our" | b"you" | b"your" | b"he" | b"she" | b"they"
        | b"his" | b"her" | b"him" | b"their" | b"them" => Hint::Person,
        b"statement" | b"statements" | b"true" | b"following" | b"argument" | b"best"
        | b"likely" | b"describes" | b"correct" => Hint::Claim,
        b"prove" | b"proof" | b"theorem" | b"derive" | b"group" | b"function" | b"integer"
        | b"integers" | b"matrix" | b"equation" | b"probability" | b"algorithm" => Hint::Proof,
        b"write" | b"draft" | b"summarize" | b"summarise" | b"translate" | b"rewrite" | b"list"
        | b"describe" | b"essay" | b"story" | b"email" | b"poem" | b"classify" | b"extract" => {
            Hint::Writing
        }
        b"must" | b"should" | b"only" | b"exactly" | b"at" | b"within" | b"limit" | b"required"
        | b"ensure" | b"format" => Hint::Constraint,
        b"def" | b"class" | b"import" | b"return" | b"fn" | b"const" | b"let" | b"var"
        | b"select" | b"code" | b"python" | b"javascript" | b"rust" | b"java" | b"sql" | b"bug"
        | b"error" | b"compile" | b"api" => Hint::Code,
        b"all" | b"some" | b"any" | b"both" | b"either" | b"these" | b"always" | b"and" | b"or" => {
            Hint::Quantifier
        }
        b"wrong" | b"moral" | b"morally" | b"ethical" | b"scenario" | b"ordinary" => Hint::Moral,
        b"court" | b"plaintiff" | b"defendant" | b"contract" | b"statute" | b"liable" | b"law"
        | b"state" | b"property" | b"evidence" | b"jury" | b"sued" => Hint::Law,
        _ => return None,
    })
}
