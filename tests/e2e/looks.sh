# shellcheck shell=bash
# Between two looks at what others do: three times as long as a look took, as on an emulated CPU a look may cost more than
# what is waited for does.

# between_looks BEGAN: $EPOCHREALTIME before the look; sleeps 50 ms to 1 s.
between_looks() {
	local now=$EPOCHREALTIME ms pause
	ms=$((3 * (${now/[.,]/} - ${1/[.,]/}) / 1000))
	ms=$((ms < 50 ? 50 : ms > 1000 ? 1000 : ms))
	printf -v pause '%d.%03d' $((ms / 1000)) $((ms % 1000))
	sleep "$pause"
}
