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
  std::unique_ptr<learner> model;
};
using device_actor = caf::stateful_actor<device_state>;

caf::actor asker(device_actor* self) { return caf::actor_cast<caf::actor>(self->current_sender()); }

token_batch rows_of(const std::vector<std::int32_t>& ids, std::int64_t begin, std::int64_t end, std::int64_t context) {
  const auto width = static_cast<std::size_t>(context + 1);
  return {std::span(ids).subspan(static_cast<std::size_t>(begin) * width, static_cast<std::size_t>(end - begin) * width), end - begin,
          context};
}

/// gradients of devices[0] += those of the others, floats [begin, end), in device order, and those are cleared for the next step.
std::span<const float> reduce(const site_memory& memory, const reduce_slice& m) {
  const auto slice = [&](std::uint32_t device) {
    return memory.gradients.at(device).subspan(static_cast<std::size_t>(m.floats.begin),
                                               static_cast<std::size_t>(m.floats.end - m.floats.begin));
  };
  const std::span<float> sum = slice(m.devices.front());
  for (std::size_t d = 1; d < m.devices.size(); ++d) {
    const std::span<float> other = slice(m.devices[d]);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += other[i];
      other[i] = 0;
    }
  }
  return sum;
}

caf::behavior device(device_actor* self, std::shared_ptr<device_settings> given) {
  end_with_reason(self);
  auto& state = self->state;
  state.settings = *given;
  state.model = state.settings.make_learner(state.settings.index, state.settings.memory->weights);
  state.settings.memory->gradients.at(state.settings.index) = state.model->gradients();
  ensure(state.model->layout().size == state.settings.memory->layout.size, "device: the learner's layout is not the site's");
  return {
      [=](const compute_gradient& m) {
        auto& model = *self->state.model;
        if (m.clear) std::ranges::fill(model.gradients(), 0.0F);
        model.weights_changed();
        self->send(self, more_gradient{m, asker(self), m.rows.begin, 0});
      },
      [=](const more_gradient& m) {
        auto& s = self->state;
        const std::int64_t end = std::min(m.at + s.settings.rows_per_slice, m.request.rows.end);
        const double loss = m.loss_sum + s.model->accumulate(rows_of(*m.request.ids, m.at, end, s.settings.context), m.request.scale);
        if (end < m.request.rows.end)
          self->send(self, more_gradient{m.request, m.asker, end, loss});
        else if (s.settings.gradient_takes.count() == 0)
          self->send(m.asker, gradient_done{s.settings.index, m.request.ticket, m.request.rows, loss});
        else
          self->delayed_send(m.asker, s.settings.gradient_takes, gradient_done{s.settings.index, m.request.ticket, m.request.rows, loss});
      },
      [](const fail_device&) { throw contract_error("a rehearsed failure of the device"); },
      [=](const reduce_slice& m) {
        auto& s = self->state;
        return slice_reduced{s.settings.index, m.ticket, s.settings.squared_norm(*s.model, reduce(*s.settings.memory, m))};
      },
      [=](const update_slice& m) {
        auto& s = self->state.settings;
        s.update(*self->state.model, {s.memory->weights->span(), s.memory->gradients.at(m.gradients_of), m.floats.begin, m.floats.end,
                                      m.learning_rate, m.gradient_scale, m.step});
        return slice_updated{s.index, m.ticket};
      },
      [=](const evaluate_rows& m) {
        if (m.fresh) self->state.model->weights_changed();
        self->send(self, more_evaluation{m, asker(self), m.rows.begin, 0});
      },
      [=](const more_evaluation& m) {
        auto& s = self->state;
        const std::int64_t end = std::min(m.at + s.settings.rows_per_slice, m.request.rows.end);
        const double loss = m.loss_sum + s.model->evaluate(rows_of(*m.request.ids, m.at, end, s.settings.context));
        if (end < m.request.rows.end)
          self->send(self, more_evaluation{m.request, m.asker, end, loss});
        else
          self->send(m.asker, rows_evaluated{s.settings.index, m.request.ticket, loss});
      },
  };
}

}  // namespace

caf::actor spawn_device(caf::event_based_actor* owner, tier where, device_settings settings) {
  auto given = std::make_shared<device_settings>(std::move(settings));
  return where == tier::real ? owner->spawn<caf::linked + caf::detached>(device, std::move(given))
                             : owner->spawn<caf::linked>(device, std::move(given));
}

}  // namespace isthmus::actors
