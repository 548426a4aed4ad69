#include "framework/data/lease_book.hpp"

#include "framework/core/error.hpp"
#include "framework/core/rng.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <optional>

using namespace isthmus;

namespace {

using leases = std::vector<lease>;
using partials = std::vector<partial_lease>;

void same_after_json(const lease_book& book) {
  const auto back = lease_book::from_json(book.to_json(), "checkpoint");
  BOOST_REQUIRE_MESSAGE(back.has_value(), (back ? "" : back.error().message));
  BOOST_TEST((*back == book));
}

/// The same promises, one position at a time.
struct plain_book {
  enum class fate { waiting, outstanding, committed, partial, written_off };
  struct entry {
    fate now = fate::waiting;
    step_number step = 0;
    int committed_times = 0;
  };
  std::vector<entry> positions;
  std::vector<step_number> watermarks;

  void granted(const leases& given, step_number step) {
    for (const lease& l : given)
      for (std::uint64_t p = l.begin; p < l.end; ++p) {
        if (p >= positions.size()) positions.resize(p + 1);
        BOOST_TEST((positions[p].now == fate::waiting), "position " << p << " granted twice");
        positions[p] = {fate::outstanding, step, positions[p].committed_times};
      }
  }
  void commit() {
    const step_number low = *std::min_element(watermarks.begin(), watermarks.end());
    for (entry& e : positions)
      if (e.now == fate::outstanding && e.step <= low) {
        e.now = fate::committed;
        ++e.committed_times;
      }
  }
  void crash(fate rest) {
    const step_number high = *std::max_element(watermarks.begin(), watermarks.end());
    for (entry& e : positions)
      if (e.now == fate::outstanding) {
        e.now = e.step <= high ? fate::partial : rest;
        e.committed_times += e.step <= high;
      }
  }
  std::uint64_t count(fate f) const {
    return static_cast<std::uint64_t>(std::count_if(positions.begin(), positions.end(), [&](const entry& e) { return e.now == f; }));
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(lease_book_test)

BOOST_AUTO_TEST_CASE(a_lease_commits_when_the_lowest_watermark_passes_it) {
  lease_book book(2, 100, 2);
  BOOST_TEST((book.grant(8, 1) == leases{{2, 0, 8}}));
  BOOST_TEST((book.grant(8, 1) == leases{{2, 8, 16}}));
  BOOST_TEST((book.grant(8, 2) == leases{{2, 16, 24}}));
  BOOST_TEST(book.commit(0, 2).empty());
  BOOST_TEST((book.commit(1, 1).committed == leases{{2, 0, 16}}));
  BOOST_TEST(book.commit(1, 1).empty());
  BOOST_TEST((book.granted(1, 2) == leases{{2, 16, 24}}));
  BOOST_TEST((book.commit(1, 5).committed == leases{{2, 16, 24}}));
  BOOST_TEST((book.totals() == lease_totals{24, 24, 0, 0, 0, 0}));
  BOOST_TEST(book.balanced());
}

BOOST_AUTO_TEST_CASE(leases_do_not_cross_a_pass) {
  lease_book book(0, 10, 1);
  BOOST_TEST((book.grant(25, 1) == leases{{0, 0, 10}, {0, 10, 20}, {0, 20, 25}}));
  (void)book.crash();
  BOOST_TEST((book.grant(12, 2) == leases{{0, 0, 10}, {0, 10, 12}}));
}

BOOST_AUTO_TEST_CASE(a_crash_returns_marks_partial_and_keeps) {
  lease_book book(0, 1000, 3);
  for (step_number step = 1; step <= 6; ++step) (void)book.grant(10, step);
  (void)book.commit(0, 2);
  (void)book.commit(1, 3);
  (void)book.commit(2, 5);
  lease_book stays_away = book;
  const auto settled = book.crash();
  BOOST_TEST((settled.partial == partials{{{0, 20, 30}, {0}}, {{0, 30, 50}, {0, 1}}}));
  BOOST_TEST((settled.returned == leases{{0, 50, 60}}));
  BOOST_TEST((book.totals() == lease_totals{60, 20, 30, 10, 0, 0}));
  BOOST_TEST((book.grant(10, 7) == leases{{0, 50, 60}}));
  BOOST_TEST(book.balanced());
  same_after_json(book);

  const auto gone = stays_away.write_off();
  BOOST_TEST((gone.written_off == leases{{0, 50, 60}}));
  BOOST_TEST((gone.partial == settled.partial));
  BOOST_TEST((stays_away.totals() == lease_totals{60, 20, 30, 0, 10, 0}));
  same_after_json(stays_away);
}

BOOST_AUTO_TEST_CASE(records_rebuild_the_book_without_the_dead_sites_disk) {
  lease_book book(0, 1000, 2);  // as a site finds it that lost everything
  const std::vector<leases> named{{{0, 0, 40}}, {{0, 0, 30}, {0, 50, 60}, {9, 0, 5}}};
  const auto settled = book.recover(named);
  BOOST_TEST((settled.committed == leases{{0, 0, 30}}));
  BOOST_TEST((settled.partial == partials{{{0, 30, 40}, {1}}, {{0, 50, 60}, {0}}}));
  BOOST_TEST((settled.returned == leases{{0, 40, 50}}));
  BOOST_TEST(book.next_position() == 60U);
  BOOST_TEST(book.balanced());
  BOOST_TEST(book.recover(named).empty());  // what is settled stays so
  BOOST_TEST((book.grant(12, 90) == leases{{0, 40, 50}, {0, 60, 62}}));
  same_after_json(book);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_and_later_records_rebuild_the_book) {
  lease_book book(0, 1000, 2);
  (void)book.grant(10, 1);
  (void)book.grant(10, 2);
  (void)book.commit(0, 2);
  (void)book.commit(1, 1);
  auto saved = *lease_book::from_json(book.to_json(), "checkpoint");
  // Group 1's next record names what group 0 had before the checkpoint; both name what was granted after it.
  const auto settled = saved.recover(std::vector<leases>{{{0, 0, 30}}, {{0, 0, 10}, {0, 10, 20}, {0, 20, 30}}});
  BOOST_TEST((settled.committed == leases{{0, 10, 30}}));
  BOOST_TEST((saved.totals() == lease_totals{30, 30, 0, 0, 0, 0}));
  BOOST_TEST(saved.balanced());
}

BOOST_AUTO_TEST_CASE(a_checkpoint_that_became_void_gives_back_what_the_records_no_longer_name) {
  lease_book book(0, 1000, 2);
  (void)book.grant(10, 1);
  (void)book.grant(10, 2);
  (void)book.grant(10, 3);
  (void)book.commit(0, 2);
  (void)book.commit(1, 3);
  auto saved = *lease_book::from_json(book.to_json(), "checkpoint");
  const std::vector<leases> named{{{0, 0, 10}}, {{0, 10, 20}}};
  const auto settled = saved.recover(named);
  BOOST_TEST((settled.partial == partials{{{0, 0, 10}, {1}}, {{0, 10, 20}, {0}}}));
  BOOST_TEST((settled.returned == leases{{0, 20, 30}}));
  BOOST_TEST((saved.totals() == lease_totals{30, 0, 20, 10, 0, 0}));
  BOOST_TEST(saved.recover(named).empty());
  BOOST_TEST((saved.recover(std::vector<leases>{{{0, 0, 10}}, {}}).returned == leases{{0, 10, 20}}));
  same_after_json(saved);
}

BOOST_AUTO_TEST_CASE(rolled_back_leases_return_once_no_group_has_them) {
  lease_book book(0, 1000, 2);
  (void)book.grant(10, 1);
  (void)book.grant(10, 2);
  (void)book.grant(10, 3);
  (void)book.commit(0, 2);
  (void)book.commit(1, 1);
  const leases first{{0, 0, 20}};
  auto settled = book.roll_back(0, 0, first);  // group 1 still has step 1, and may yet have step 2
  BOOST_TEST((settled.partial == partials{{{0, 0, 10}, {0}}}));
  BOOST_TEST(settled.returned.empty());
  BOOST_TEST((book.totals() == lease_totals{30, 0, 10, 0, 0, 20}));
  BOOST_TEST(book.roll_back(0, 0, first).empty());  // what is known changes nothing
  same_after_json(book);
  BOOST_TEST(book.commit(0, 3).empty());
  settled = book.commit(1, 2);
  BOOST_TEST((settled.partial == partials{{{0, 10, 20}, {0}}}));
  settled = book.roll_back(1, 0, first);
  BOOST_TEST((settled.returned == leases{{0, 0, 20}}));
  BOOST_TEST((book.totals() == lease_totals{30, 0, 0, 20, 0, 10}));
  BOOST_TEST((book.commit(1, 3).committed == leases{{0, 20, 30}}));
  BOOST_TEST((book.grant(15, 4) == leases{{0, 0, 15}}));
  BOOST_TEST(book.balanced());
  same_after_json(book);
}

BOOST_AUTO_TEST_CASE(rolled_back_leases_in_no_record_at_the_end_are_written_off) {
  lease_book book(0, 1000, 2);
  (void)book.grant(10, 1);
  (void)book.grant(10, 2);
  (void)book.commit(0, 1);
  (void)book.roll_back(0, 0, leases{{0, 0, 10}});
  (void)book.commit(0, 2);
  const auto settled = book.write_off();
  BOOST_TEST((settled.written_off == leases{{0, 0, 10}}));
  BOOST_TEST((settled.partial == partials{{{0, 10, 20}, {1}}}));
  BOOST_TEST(book.balanced());
}

BOOST_AUTO_TEST_CASE(positions_are_never_lost_doubled_or_trained_twice) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      rng random(seed, 0, 0, draw::fault);
      const auto groups = static_cast<std::uint32_t>(1 + random.below(3));
      lease_book book(1, 1 + random.below(40), groups);
      plain_book plain;
      plain.watermarks.assign(groups, 0);
      step_number step = 1;
      for (int event = 0; event < 60; ++event) {
        const auto what = random.below(20);
        if (what < 10) {
          const std::uint64_t wanted = 1 + random.below(9);
          const auto given = book.grant(wanted, step);
          std::uint64_t size = 0;
          for (const lease& l : given) {
            BOOST_TEST(l.begin / book.samples() == (l.end - 1) / book.samples());
            size += l.end - l.begin;
          }
          BOOST_TEST(size == wanted);
          plain.granted(given, step);
          step += random.below(2);
        } else if (what < 16) {
          const auto group = static_cast<group_id>(random.below(groups));
          const step_number reached = random.below(step + 1);
          (void)book.commit(group, reached);
          plain.watermarks[group] = std::max(plain.watermarks[group], reached);
          plain.commit();
          step = std::max(step, book.highest_watermark() + 1);  // a step that was contributed is over
        } else {
          const bool returns = what < 18;
          (void)(returns ? book.crash() : book.write_off());
          plain.crash(returns ? plain_book::fate::waiting : plain_book::fate::written_off);
          ++step;
        }
        using fate = plain_book::fate;
        BOOST_TEST(book.balanced());
        BOOST_TEST(book.next_position() == plain.positions.size());
        BOOST_TEST(book.totals().committed == plain.count(fate::committed));
        BOOST_TEST(book.totals().partial == plain.count(fate::partial));
        BOOST_TEST(book.totals().written_off == plain.count(fate::written_off));
        BOOST_TEST(book.totals().outstanding == plain.count(fate::outstanding));
        if (random.below(4) == 0) book = *lease_book::from_json(book.to_json(), "t");
      }
      for (const auto& e : plain.positions) BOOST_TEST(e.committed_times <= 1);
      same_after_json(book);
    }
  }
}

BOOST_AUTO_TEST_CASE(recovery_from_records_equals_a_book_that_survived) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      rng random(seed, 1, 0, draw::fault);
      const auto groups = static_cast<std::uint32_t>(1 + random.below(3));
      lease_book book(1, 50, groups);
      std::optional<lease_book> saved;
      std::vector<leases> named(groups);  // by records
      std::vector<step_number> watermarks(groups, 0);
      for (step_number step = 1; step <= 30; ++step) {
        (void)book.grant(1 + random.below(5), step);
        if (random.below(3) == 0) {
          const auto group = static_cast<group_id>(random.below(groups));
          for (const lease& l : book.granted(watermarks[group], step)) named[group].push_back(l);
          watermarks[group] = step;
          (void)book.commit(group, step);
        }
        if (random.below(12) == 0) saved = *lease_book::from_json(book.to_json(), "t");
      }
      if (!saved) saved.emplace(1, 50, groups);
      (void)saved->recover(named);
      (void)book.crash();
      BOOST_TEST(saved->balanced());
      BOOST_TEST(saved->totals().committed == book.totals().committed);
      BOOST_TEST(saved->totals().partial == book.totals().partial);
      // Whatever is granted from now on, the same positions below any bound are open in both.
      const std::uint64_t bound = std::max(book.next_position(), saved->next_position());
      for (lease_book* b : {&book, &*saved}) {
        const std::uint64_t settled = b->totals().committed + b->totals().partial;
        (void)b->grant(bound - settled, 99);
        BOOST_TEST(b->next_position() == bound);
      }
      BOOST_TEST((book.granted(98, 99) == saved->granted(98, 99)));
    }
  }
}

BOOST_AUTO_TEST_CASE(what_every_group_vetoes_returns_and_what_some_took_is_partial) {
  lease_book book(0, 100, 2);
  const auto first = book.grant(4, 1), second = book.grant(4, 2), third = book.grant(4, 3);
  BOOST_TEST(book.veto(0, 1, first).empty());
  BOOST_TEST((book.veto(1, 1, first).returned == first));
  BOOST_TEST(book.veto(0, 2, second).empty());
  const auto taken_by_one = book.commit(1, 2);
  BOOST_TEST((taken_by_one.partial == std::vector<partial_lease>{{second.front(), {0}}}));
  BOOST_TEST(book.commit(0, 3).empty());
  BOOST_TEST((book.commit(1, 3).committed == third));
  BOOST_TEST(book.balanced());
  BOOST_TEST((book.grant(4, 4) == first));  // once more
  BOOST_TEST(book.balanced());
}

BOOST_AUTO_TEST_CASE(a_damaged_state_is_an_error_with_its_place) {
  lease_book book(3, 100, 2);
  (void)book.grant(10, 1);
  (void)book.commit(0, 1);
  (void)book.grant(5, 2);
  const std::string good = book.to_json();
  const auto message = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const auto at = text.find(from);
    BOOST_REQUIRE_MESSAGE(at != std::string::npos, from + " is not in " + good);
    text.replace(at, from.size(), to);
    const auto read = lease_book::from_json(text, "ckpt/cursor.json");
    return read ? "accepted" : read.error().message;
  };
  BOOST_TEST(message("{", "").starts_with("ckpt/cursor.json: lease book: not JSON"));
  BOOST_TEST(message("\"next\":15", "\"next\":16").find("do not balance") != std::string::npos);
  BOOST_TEST(message("\"assigned\":15", "\"assigned\":-15").find("assigned: -15 is not a number") != std::string::npos);
  BOOST_TEST(message("\"samples\":100", "\"samples\":0").find("samples: at least 1") != std::string::npos);
  BOOST_TEST(message("\"watermarks\":[1,0]", "\"watermarks\":[]").find("watermarks: at least one") != std::string::npos);
  BOOST_TEST(message("[0,10,1]", "[10,0,1]").find("outstanding[0]: 3 numbers") != std::string::npos);
  BOOST_TEST(message("\"committed\"", "\"comitted\"").find("committed: is missing") != std::string::npos);
  BOOST_TEST(message("\"outstanding\":", "\"outstanding\":7,\"x\":").find("outstanding: an array") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(misuse_is_a_contract_error) {
  lease_book book(0, 10, 1);
  (void)book.grant(1, 5);
  BOOST_CHECK_THROW((void)book.grant(1, 4), contract_error);
  BOOST_CHECK_THROW((void)book.commit(1, 1), contract_error);
  BOOST_CHECK_THROW(lease_book(0, 0, 1), contract_error);
  BOOST_CHECK_THROW((void)book.recover({}), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
