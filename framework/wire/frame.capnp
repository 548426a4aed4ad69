@0x98ca0ee544766d2e;
# Frames between the sites of a run. Field numbers are never reused; a change that an old reader would misread raises wire::version.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("isthmus::wire::schema");

struct Hash {
  high @0 :UInt64;
  low @1 :UInt64;
}

struct Lease {
  shard @0 :UInt32;
  begin @1 :UInt64;
  end @2 :UInt64;
}

struct Contributor {
  site @0 :UInt32;
  incarnation @1 :UInt64;
  step @2 :UInt64;
  tokens @3 :UInt64;
  leases @4 :List(Lease);
  mass @5 :Float64;
  judged @6 :UInt8;         # a verdict, below 10
  uncounted @7 :UInt64;     # tokens
  clipped @8 :Float64;
  barredUntil @9 :UInt64;   # a round
  rounds @10 :UInt64;
  strikes @11 :UInt32;
  auditsFailed @12 :UInt32;
}

struct Audit {
  site @0 :UInt32;
  round @1 :UInt64;
  cosine @2 :Float64;       # -1 to 1
  failed @3 :Bool;
  barredUntil @4 :UInt64;   # a round
}

struct RoundRecord {
  group @0 :UInt32;
  round @1 :UInt64;
  epoch @2 :UInt64;
  home @3 :UInt32;
  contributors @4 :List(Contributor);
  weight @5 :Float64;
  mass @6 :Float64;
  deltaHash @7 :Hash;
  anchorHash @8 :Hash;
  previous @9 :Hash;
  tokensTotal @10 :UInt64;
  audits @11 :List(Audit);
}

struct GroupCut {
  group @0 :UInt32;
  home @1 :UInt32;
  round @2 :UInt64;
  recordHash @3 :Hash;
  anchorHash @4 :Hash;
  epoch @5 :UInt64;
  holder @6 :UInt32;
}

struct Member {
  site @0 :UInt32;
  incarnation @1 :UInt64;
  joining @2 :Bool;
  source @3 :UInt32;
  standingBy @4 :Bool;
}

struct EpochView {
  number @0 :UInt64;
  members @1 :List(Member);
  cuts @2 :List(GroupCut);
  reason @3 :Text;
}

struct HeldRecord {
  group @0 :UInt32;
  round @1 :UInt64;
  recordHash @2 :Hash;
  anchorHash @3 :Hash;
  epoch @4 :UInt64;
}

struct Place {  # in the history of a group
  epoch @0 :UInt64;
  group @1 :UInt32;
  round @2 :UInt64;
}

struct Frame {
  version @0 :UInt32;
  site @1 :UInt32;          # the sender
  incarnation @2 :UInt64;   # the sender's
  runTag @3 :UInt64;        # hash of the run's id
  payloadBytes @4 :UInt64;  # what follows on the bulk path; 0 on the control path

  body :union {
    bodyInFront @5 :UInt32;  # bytes of the frame in front of the payload that holds the body

    join :group {
      incarnation @6 :UInt64;
      held @7 :List(HeldRecord);
    }
    beat :group {
      sequence @8 :UInt64;
      echo @9 :UInt64;
    }
    suspect :group {
      peer @10 :UInt32;
      incarnation @11 :UInt64;
      reason @12 :Text;
    }
    seal @13 :UInt64;  # epoch
    sealed :group {
      epoch @14 :UInt64;
      held @15 :List(HeldRecord);
    }
    newEpoch @16 :EpochView;
    synced @17 :UInt64;  # epoch
    leave :group {
      reason @18 :Text;
      finished @19 :Bool;
    }
    report :group {
      step @20 :UInt64;
      tokens @21 :UInt64;
      loss @22 :Float64;
      tokensPerSecond @23 :Float64;
    }
    stopRun :group {
      reason @24 :Text;
      finished @25 :Bool;
    }
    contribution :group {
      place @26 :Place;
      from @27 :Contributor;
      frameHash @28 :Hash;
      base @45 :Hash;
    }
    delta @29 :RoundRecord;
    statePart :group {
      place @30 :Place;
      begin @31 :UInt64;  # in floats
      record @32 :RoundRecord;
      watermarks @33 :List(Contributor);
    }
    stored :group {
      place @34 :Place;
      recordHash @35 :Hash;
    }
    commit :group {
      place @36 :Place;
      recordHash @37 :Hash;
    }
    refused :group {
      place @38 :Place;
      code @39 :UInt32;
      reason @40 :Text;
    }
    wantState :group {
      epoch @41 :UInt64;
      group @42 :UInt32;
      round @49 :UInt64;
      recordHash @50 :Hash;
      begin @51 :UInt64;  # in floats
      any @52 :Bool;
    }
    wantRecord @43 :Place;
    toActor @44 :Text;  # name
    freeze @46 :UInt64;  # epoch
    frozen :group {
      epoch @47 :UInt64;
      held @48 :List(HeldRecord);
    }
    call @53 :Place;
    pass @54 :Place;
  }
}
