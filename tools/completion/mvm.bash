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
	if [ "${COMP_WORDS[1]}" = verify ]; then
		if [ "${cur#-}" = "$cur" ]; then
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -W "--key --sig --help" -- "$cur")
		fi
		return
	fi
	local flags='' vms='mvm ps -q'
	case ${COMP_WORDS[1]} in
	update) flags="--blk-iops --blk-bps --io-max --net-pps --net-bps --help" ;;
	inspect) flags="--security --format --help" ;;
	ps) flags="--all --quiet --format --help" vms=: ;;
	logs) flags="--follow --timestamps --since --tail --help" vms='mvm ps -aq' ;;
	wait) flags="--help" vms='mvm ps -aq' ;;
	start) flags="--attach --interactive --detach-keys --help" vms='mvm ps -aq' ;;
	pause | resume | top) flags="--help" ;;
	metrics) flags="--listen --help" vms=: ;;
	events) flags="--follow --since --filter --format --help" vms=: ;;
	stats) flags="--follow --format --help" ;;
	stop) flags="--time --help" ;;
	kill) flags="--signal --help" ;;
	rm) flags="--force --help" vms='mvm ps -aq' ;;
	attach) flags="--no-stdin --detach-keys --help" ;;
	cp)
		flags="--archive --follow-link --help"
		compopt -o filenames -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		[ "${#COMPREPLY[@]}" -eq 0 ] || return
		;;
	exec) flags="--interactive --tty --env --env-file --user --workdir --help" ;;
	esac
	if [ "$flags" ]; then
		case $prev in
		--format)
			local formats='table json'
			[ "${COMP_WORDS[1]}" != inspect ] || formats+=' config'
			mapfile -t COMPREPLY < <(compgen -W "$formats" -- "$cur")
			;;
		--io-max)
			compopt -o nospace 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -W "rbps= wbps= riops= wiops=" -- "$cur")
			;;
		--blk-iops | --blk-bps | --net-pps | --net-bps | --filter | --listen | --since | --tail | --time | --signal | --detach-keys | --env | --user | --workdir) ;;
		*)
			local names=''
			[ "$vms" = : ] || names=$($vms 2>/dev/null; mvm ps -a --format json 2>/dev/null | sed -n 's/^ *"name":"\(.*\)",$/\1/p')
			mapfile -t COMPREPLY < <(compgen -W "$names $flags" -- "$cur")
			;;
		esac
		return
	fi
	[ "${COMP_WORDS[1]}" = run ] || return
	for ((i = 2; i < COMP_CWORD; i++)); do
		[ "${COMP_WORDS[i]}" != -- ] || return # after it: the command inside the VM, whose files are not here
	done
	case $prev in
	--config | --rootfs | --kernel | --initrd | --console | --receipt | --sign | --env-file | --disk)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--io-max)
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -W "rbps= wbps= riops= wiops=" -- "$cur")
		;;
	--allow-missing) mapfile -t COMPREPLY < <(compgen -W "cgroup landlock landlock-net lsm" -- "$cur") ;;
	--egress) mapfile -t COMPREPLY < <(compgen -W "allow deny" -- "$cur") ;;
	--restart) mapfile -t COMPREPLY < <(compgen -W "no on-failure always" -- "$cur") ;;
	--log-level) mapfile -t COMPREPLY < <(compgen -W "error warning info debug" -- "$cur") ;;
	*) mapfile -t COMPREPLY < <(compgen -W "$(mvm run --help 2>/dev/null | grep -o -- '--[a-z-]*' | sort -u) --" -- "$cur") ;;
	esac
}
complete -F _mvm mvm
