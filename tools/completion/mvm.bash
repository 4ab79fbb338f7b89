# bash completion for mvm; install as /usr/share/bash-completion/completions/mvm
_mvm() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(mvm help 2>/dev/null | sed -n 's/^  mvm \([a-z]*\) .*/\1/p')" -- "$cur")
		return
	fi
	if [ "${COMP_WORDS[1]}" = doctor ]; then
		case $prev in
		--format) mapfile -t COMPREPLY < <(compgen -W "table json" -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "--format --strict --help" -- "$cur") ;;
		esac
		return
	fi
	if [ "${COMP_WORDS[1]}" = update ] || [ "${COMP_WORDS[1]}" = inspect ]; then
		local parent=${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/mvm} flags="--blk-iops --blk-bps"
		[ "$EUID" -ne 0 ] || parent=/run/mvm
		[ "${COMP_WORDS[1]}" = update ] || flags="--security --format --help"
		case $prev in
		--blk-iops | --blk-bps) return ;;
		--format)
			mapfile -t COMPREPLY < <(compgen -W "table json" -- "$cur")
			return
			;;
		esac
		mapfile -t COMPREPLY < <(compgen -W "$(ls -I uids "${parent:-/tmp/mvm-$EUID}" 2>/dev/null) $flags" -- "$cur")
		return
	fi
	[ "${COMP_WORDS[1]}" = run ] || return
	for ((i = 2; i < COMP_CWORD; i++)); do
		[ "${COMP_WORDS[i]}" != -- ] || return # after it: the command inside the VM, whose files are not here
	done
	case $prev in
	--rootfs | --kernel | --initrd | --console | --receipt | --env-file | --disk)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--allow-missing) mapfile -t COMPREPLY < <(compgen -W "cgroup landlock landlock-net lsm" -- "$cur") ;;
	--log-level) mapfile -t COMPREPLY < <(compgen -W "error warning info debug" -- "$cur") ;;
	*) mapfile -t COMPREPLY < <(compgen -W "$(mvm run --help 2>/dev/null | grep -o -- '--[a-z-]*' | sort -u) --" -- "$cur") ;;
	esac
}
complete -F _mvm mvm
