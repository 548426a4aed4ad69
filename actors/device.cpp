#include "actors/device.hpp"

#include "actors/messages.hpp"
#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus::actors {

/// Rest of a request that is computed slice by slice: the actor hears other messages in between.
struct more_gradient {
  compute_gradient request;
  caf::actor asker;
  std::int64_t at;
  double loss_sum;
};
struct more_evaluation {
  evaluate_rows request;
  caf::actor asker;
  std::int64_t at;
  double loss_sum;
};

}  // namespace isthmus::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(isthmus::actors::more_gradient)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(isthmus::actors::more_evaluation)

namespace isthmus::actors {

namespace {

struct device_state {
  device_settings settings;
  gradient_array gradients;  // its own: whoever comes after a dead device has another
  std::unique_ptr<learner> model;
  std::uint64_t ticket = 0;  // worked for; what is left of an older request is dropped
};
using device_actor = caf::stateful_actor<device_state>;

caf::actor asker(device_actor* self) { return caf::actor_cast<caf::actor>(self->current_sender()); }

token_batch rows_of(const std::vector<std::int32_t>& ids, std::int64_t begin, std::int64_t end, std::int64_t context) {
  const auto width = static_cast<std::size_t>(context + 1);
  return {std::span(ids).subspan(static_cast<std::size_t>(begin) * width, static_cast<std::size_t>(end - begin) * width), end - begin,
          context};
}

/// The first gradients += the others, floats [begin, end), in their order, and those are cleared for the next step.
std::span<const float> reduce(const reduce_slice& m) {
  const auto slice = [&](const gradient_array& gradients) {
    return gradients->span().subspan(static_cast<std::size_t>(m.floats.begin), static_cast<std::size_t>(m.floats.end - m.floats.begin));
  };
  const std::span<float> sum = slice(m.gradients.front());
  for (std::size_t d = 1; d < m.gradients.size(); ++d) {
    const std::span<float> other = slice(m.gradients[d]);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += other[i];
      other[i] = 0;
    }
  }
  return sum;
}

std::int64_t end_of_slice(const device_settings& s, std::int64_t at, std::int64_t end) {
  return at + rows_of_slice(end - at, s.context, s.tokens_per_slice);
}

void go_on(device_actor* self, const more_gradient& m) {
  auto& s = self->state;
  if (m.request.ticket != s.ticket) return;  // of a step that is computed again: the gradients are another's now
  const std::int64_t end = end_of_slice(s.settings, m.at, m.request.rows.end);
  const double loss = m.loss_sum + s.model->accumulate(rows_of(*m.request.ids, m.at, end, s.settings.context), m.request.scale);
  if (end < m.request.rows.end) {
    self->send(self, more_gradient{m.request, m.asker, end, loss});
    return;
  }
  const gradient_done done{s.settings.index, m.request.ticket, loss, s.gradients};
  if (s.settings.gradient_takes)
    self->delayed_send(m.asker, s.settings.gradient_takes(), done);
  else
    self->send(m.asker, done);
}

caf::behavior device(device_actor* self, std::shared_ptr<device_settings> given) {
  end_with_reason(self);
  auto& state = self->state;
  state.settings = *given;
  state.gradients = std::make_shared<float_array>(static_cast<std::size_t>(state.settings.memory->layout.size));
  state.model = state.settings.make_learner(state.settings.index, state.settings.memory->weights, state.gradients);
  ensure(state.model->layout().size == state.settings.memory->layout.size, "device: the learner's layout is not the site's");
  return {
      [=](const compute_gradient& m) {
        auto& s = self->state;
        s.ticket = m.ticket;
        if (m.clear) std::ranges::fill(s.gradients->span(), 0.0F);
        s.model->weights_changed();
        self->send(self, more_gradient{m, asker(self), m.rows.begin, 0});
      },
      [=](const more_gradient& m) { go_on(self, m); },
      [](const fail_device&) { throw contract_error("a rehearsed failure of the device"); },
      [=](const reduce_slice& m) {
        auto& s = self->state;
        return slice_reduced{s.settings.index, m.ticket, s.settings.squared_norm(*s.model, reduce(m))};
      },
      [=](const update_slice& m) {
        auto& s = self->state.settings;
        s.update(*self->state.model,
                 {s.memory->weights->span(), m.gradients->span(), m.floats.begin, m.floats.end, m.learning_rate, m.gradient_scale, m.step});
        return slice_updated{s.index, m.ticket};
      },
      [=](const evaluate_rows& m) {
        self->state.ticket = m.ticket;
        self->state.model->weights_changed();
        self->send(self, more_evaluation{m, asker(self), m.rows.begin, 0});
      },
      [=](const more_evaluation& m) {
        auto& s = self->state;
        if (m.request.ticket != s.ticket) return;
        const std::int64_t end = end_of_slice(s.settings, m.at, m.request.rows.end);
        const double loss = m.loss_sum + s.model->evaluate(rows_of(*m.request.ids, m.at, end, s.settings.context));
        if (end < m.request.rows.end)
          self->send(self, more_evaluation{m.request, m.asker, end, loss});
        else
          self->send(m.asker, rows_evaluated{s.settings.index, m.request.ticket, loss});
      },
  };
}

}  // namespace

std::int64_t rows_of_slice(std::int64_t rows, std::int64_t context, std::int64_t tokens) {
  const std::int64_t slices = std::max<std::int64_t>(1, rows * context / tokens);
  return (rows + slices - 1) / slices;
}

caf::actor spawn_device(caf::event_based_actor* owner, tier where, device_settings settings) {
  auto given = std::make_shared<device_settings>(std::move(settings));
  return where == tier::real ? owner->spawn<caf::linked + caf::detached>(device, std::move(given))
                             : owner->spawn<caf::linked>(device, std::move(given));
}

}  // namespace isthmus::actors
